"""Everything a fitted model has learned, as plain arrays; it must not know how it was fitted or how it is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

CHANNELS = 3  # residuals: to the level of a week, to the level of two hours, to the autoencoder
SCALES = (3, 9, 31, 91, 271)  # points over which a residual's energy is averaged
WINDOW = 32  # points the autoencoder sees at once
STRIDE = 16
PHASES = 4  # times that a window is looked at, with other places hidden
HIDDEN = 4  # points in a row that a causal window hides
ASKED = 8  # places of a window that are read in each phase


@dataclass(frozen=True)
class Parameters:
    """G granularities, M metrics, L query lengths, 2 modes (whole, causal), C channels, S scales.

    steps [G] seconds; level_points, recent_points [G]: the two levels' windows; points_per_day [G].
    offset, center, spread [G, M]: a value is (value - center) / spread from its usual one; where the offset is not 0,
    log((value + offset) / center) / spread. Raw units, but for the spread of a logarithm.
    unit, unit_slope [G, M]: a usual deviation, in spreads, where the rhythm is 0, and by how much it grows with each
    spread of rhythm.
    noise [G, M]: usual deviations around the level of two hours, in units.
    daily [ΣD, M], weekly [ΣW, M]: rhythm in scaled units, the granularities'
    tables one below the other, daily_bins/daily_offset [G] saying where each is (weekly likewise).
    log_points [G, L]: natural logarithm of the query lengths that the following were measured at.
    tau, size [2, G, L, C, M]: noise of each residual in scaled units, its mean clipped z.
    usual, limit [2, G, L, S, M]: mean of the energy at each scale, and its quantile that is distance 1; reached
    [2, G, L, M]: the mean share of the shortest scale's that points reach. joint_usual, joint_limit [2, G, L, S],
    joint_reached [2, G, L]: of all metrics.
    habit [2, G, 24, M]: by how much the line lies further out at each hour of the day (UTC), for what happens there on
    most days.
    embedding [G, M, H] and weights: the autoencoder's.
    """

    steps: Ints
    level_points: Ints
    recent_points: Ints
    points_per_day: Floats
    offset: Floats
    center: Floats
    spread: Floats
    unit: Floats
    unit_slope: Floats
    noise: Floats
    daily: Floats
    daily_bins: Ints
    daily_offset: Ints
    weekly: Floats
    weekly_bins: Ints
    weekly_offset: Ints
    log_points: Floats
    tau: Floats
    size: Floats
    usual: Floats
    limit: Floats
    reached: Floats
    joint_usual: Floats
    joint_limit: Floats
    joint_reached: Floats
    habit: Floats
    embedding: Floats
    weights: Mapping[str, Floats]

    @property
    def metrics(self) -> int:
        return self.center.shape[1]
