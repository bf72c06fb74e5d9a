"""Scores of the rows that are asked, where what lies before them cannot change their judgement; knows no detector."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from outliers.infer.judge import KEEP, KEEP_GAP
from outliers.infer.scores import Scores

BEFORE = 64  # rows before the asked ones that are scored too: most runs that reach into those begin within them


def score_asked(score: Callable[[int], Scores], column: int, empty: NDArray[np.bool_], first: int) -> Scores:
    """Return scores by which `judge` says of the rows from `first` on what it says by the scores of all rows.

    score: gives the scores of the rows from its argument on, NaN before. column: of the asked metric.
    empty: bool [T], buckets that the judge may put over the line, whatever their score.
    The judge lets a run of points reach back any way: where one fills all that was scored, all is scored.
    """
    start = first - BEFORE
    if start <= 0:
        return score(0)
    scores = score(start)
    # What causes a point is looked for KEEP_GAP points before it.
    known = slice(start + KEEP_GAP, first)
    goes_on = (scores.score[known, column] >= KEEP) | empty[known]
    return score(0) if goes_on.all() else scores
