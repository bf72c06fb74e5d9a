"""What is far out but usual: excursions that most days have, or that fill a series; knows nothing of how they score.

A nightly backup is no anomaly, nor is the fortieth burst of a sensor that bursts all the time.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from outliers.infer.scales import Bools, Floats

HOURS = 24
LEAST_DAYS = 3
_AROUND_H = 2  # hours before and after that count as the same time of day
_MOST_DAYS_SHARE = 0.85  # of the days must reach
_EXISTS = 1.25  # this distance for it to be a habit
_USUAL_SHARE, _MOST = 0.8, 1.5  # how far it goes: this quantile of the days, at most so many times what most reach
_BELOW_LINE = 1.1  # the distance that it is brought to

_BURSTS_SHARE, _LEAST_BURSTS = 0.005, 6  # runs over the line, of the points, that are the nature of a series
_PARTS, _LEAST_PARTS = 8, 6  # of the series' parts that must have one: what began an hour ago is not nature
_BEYOND = 1.1  # times the usual height of a burst, to be more than one


def of_day(distance: Floats, timestamps: NDArray[np.int64]) -> Floats:
    """By how much the line lies further out at each hour of the day (UTC) [24, M], 1 where there is no habit.

    distance [T, M]: of each point, 1 = the 99 % quantile of what is usual, NaN = unknown; timestamps: Unix seconds.
    """
    metrics = distance.shape[1]
    found = np.ones((HOURS, metrics))
    hour = timestamps // 3600
    first, count = int(hour[0]), int(hour[-1] - hour[0]) + 1
    if count < LEAST_DAYS * HOURS:
        return found
    highest = np.full((count, metrics), np.nan)
    np.fmax.at(highest, hour - first, distance)
    edge = np.full((_AROUND_H, metrics), np.nan)
    padded = np.concatenate([edge, highest, edge])
    around = np.fmax.reduce([padded[i : i + count] for i in range(2 * _AROUND_H + 1)])
    hour_of_day = (first + np.arange(count)) % HOURS
    for h in range(HOURS):
        days = around[hour_of_day == h]
        known = np.isfinite(days).sum(0)
        days = np.where(np.isfinite(days), days, 0.0)
        most, far = np.quantile(days, (1.0 - _MOST_DAYS_SHARE, _USUAL_SHARE), axis=0)
        is_habit = (known >= LEAST_DAYS) & (most >= _EXISTS)
        found[h] = np.where(is_habit, np.maximum(np.minimum(far, _MOST * most) / _BELOW_LINE, 1.0), 1.0)
    return found


def of_nature(score: Floats, over: Bools) -> float:
    """By how much the line of a metric lies further out because of its bursts, 1 where it is not bursty.

    score [T]: 1 = the line; over [T]: points that would be flagged.
    """
    edges = np.diff(np.concatenate([[False], over, [False]]).astype(np.int8))
    starts, stops = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    points = len(score)
    if len(starts) <= max(_LEAST_BURSTS, _BURSTS_SHARE * points):
        return 1.0
    if len(np.unique(starts * _PARTS // points)) < _LEAST_PARTS:
        return 1.0
    heights = np.maximum.reduceat(
        score, np.stack([starts, stops], 1).ravel()[: 2 * len(starts) - (stops[-1] == points)]
    )
    return float(max(_BEYOND * np.median(heights[::2]), 1.0))
