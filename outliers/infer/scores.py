"""What a detector, with or without a model, says of a series; the judge makes flags of it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Scores(NamedTuple):
    """One value per point and metric, float32 [T, M] each; CONTRACT: the model file's outputs.

    expected, lower, upper: raw units. lower/upper: how far the point's own deviation may go before it reaches
        the line, all other points held as they are; NaN where no finite value would.
    score: the unconfirmed s: distance ÷ distance of the line at the asked k (1.0 = the line); NaN where missing.
    own: the shortest scale's distance ÷ distance of the line.
    """

    expected: NDArray[np.float32]
    lower: NDArray[np.float32]
    upper: NDArray[np.float32]
    score: NDArray[np.float32]
    own: NDArray[np.float32]
