"""The daily and weekly rhythm of a metric, taken from the query itself; knows nothing of scores.

Only where there are enough days, and only as much of it as predicts days that were left out.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from outliers.infer.scales import Floats, robust_size

DAY_S = 86_400
WEEK_S = 7 * DAY_S
PERIODS_NEEDED = 2.5  # days for a daily rhythm, weeks for a weekly one
FACTORS = (0.0, 0.25, 0.5, 0.75, 1.0)
ROWS_THAT_MAKE_A_HABIT = 3
STANDS_OUT = 5.0  # usual sizes of a bin


class _Cycle(NamedTuple):
    """A period that may repeat, the bins it is cut into, and by how much it must predict better than nothing."""

    period_s: int
    most_bins: int
    gain: float
    remembered: int  # periods that a causal profile looks back

    def bins(self, step_s: int) -> int:
        return min(self.most_bins, self.period_s // step_s)


# The Monday that Unix time 345,600 is: weeks start there.
DAILY = _Cycle(DAY_S, 288, 0.02, 28)
WEEKLY = _Cycle(WEEK_S, 168, 0.03, 8)
MONDAY_S = 4 * DAY_S


def rhythm(x: Floats, timestamps: NDArray[np.int64], step_s: int, causal: bool) -> Floats:
    """What of `x` [T] (NaN = missing) the time of day and of the week explain, [T]; 0 where nothing.

    Causal: each day (week) is explained by the days (weeks) before it.
    """
    explained = np.zeros(len(x))
    if len(x) < 8:
        return explained
    span_s = timestamps[-1] - timestamps[0] + step_s
    for cycle in (DAILY, WEEKLY):
        needed = PERIODS_NEEDED - 0.5 * causal
        if cycle.bins(step_s) >= 2 and span_s >= needed * cycle.period_s:
            explained = explained + _explained(x - explained, timestamps - MONDAY_S, cycle, cycle.bins(step_s), causal)
    return explained


def _explained(x: Floats, clock_s: NDArray[np.int64], cycle: _Cycle, bins: int, causal: bool) -> Floats:
    row = clock_s // cycle.period_s
    row = row - row[0]
    phase = (clock_s % cycle.period_s) * (bins / cycle.period_s)
    table = _table(x, row, phase.astype(np.int64), bins)
    centre = 0.5 * (cycle.period_s / bins - _step_s(clock_s)) * bins / cycle.period_s  # a bin's middle, in bins
    if not causal:
        return _at(_profile(table, cycle), phase - centre)
    explained = np.zeros(len(x))
    starts = np.flatnonzero(np.diff(row, prepend=-1))
    for start, stop in zip(starts, [*starts[1:], len(x)]):
        day = row[start]
        if clock_s[start] - clock_s[0] >= (PERIODS_NEEDED - 0.5) * cycle.period_s:
            profile = _profile(table[max(0, day - cycle.remembered) : day], cycle)
            explained[start:stop] = _at(profile, phase[start:stop] - centre)
    return explained


def _step_s(clock_s: NDArray[np.int64]) -> int:
    return int(clock_s[1] - clock_s[0])


def _table(x: Floats, row: NDArray[np.int64], bin_: NDArray[np.int64], bins: int) -> Floats:
    """Mean of `x` per row and bin, [rows, bins], NaN where nothing was observed."""
    seen = ~np.isnan(x)
    flat = (row * bins + bin_)[seen]
    size = int(row[-1] + 1) * bins
    count = np.bincount(flat, minlength=size)
    total = np.bincount(flat, weights=x[seen], minlength=size)
    return (total / np.where(count > 0, count, np.nan)).reshape(-1, bins)


def _profile(table: Floats, cycle: _Cycle) -> Floats:
    """Rhythm [bins]: median over rows of the differences to each row's median, times the factor that predicts best."""
    full = (~np.isnan(table)).sum(axis=1) * 2 > table.shape[1]
    rows = table[full]
    if len(rows) < 2:
        return np.zeros(table.shape[1])
    rows = rows - _nan_median(rows.T)[:, None]
    halves = [rows[0::2], rows[1::2]]
    wrong = np.zeros(len(FACTORS))
    for known, left_out in (halves, halves[::-1]):
        guess = _smooth(_closed(_nan_median(known)))
        wrong += [np.nansum(np.abs(left_out - factor * guess)) for factor in FACTORS]
    best = int(np.argmin(wrong))
    wave = np.zeros(table.shape[1])
    if wrong[best] < (1.0 - cycle.gain) * wrong[0]:
        wave = FACTORS[best] * _smooth(_closed(_nan_median(rows)))
    return wave + _appointments(rows - wave)


def _appointments(rest: Floats) -> Floats:
    """What happens at the same time in nearly every row, [bins]: a nightly backup is narrower than any wave."""
    if len(rest) < ROWS_THAT_MAKE_A_HABIT:
        return np.zeros(rest.shape[1])
    usual = _nan_median(rest)
    stands_out = np.abs(usual) > STANDS_OUT * robust_size(usual)
    if not stands_out.any():
        return np.zeros(rest.shape[1])
    alike = np.sort(rest * np.sign(usual), axis=0)[len(rest) // 4] > 0.5 * np.abs(usual)  # NaN is sorted last
    return np.where(stands_out & alike, usual, 0.0)


def _nan_median(table: Floats) -> Floats:
    """Median over the first axis, NaN left out; NaN where all are."""
    count = (~np.isnan(table)).sum(axis=0)
    ordered = np.sort(table, axis=0)
    columns = np.arange(table.shape[1])
    return 0.5 * (
        ordered[np.maximum(count - 1, 0) // 2, columns] + ordered[np.minimum(count // 2, len(table) - 1), columns]
    )


def _closed(profile: Floats) -> Floats:
    """`profile` with its gaps interpolated around the circle."""
    seen = np.flatnonzero(~np.isnan(profile))
    if len(seen) == len(profile) or not len(seen):
        return np.nan_to_num(profile)
    return np.interp(np.arange(len(profile)), seen, profile[seen], period=len(profile))


def _smooth(profile: Floats) -> Floats:
    width = max(1, len(profile) // 96) | 1
    if width < 3:
        return profile
    around = np.concatenate([profile[-(width // 2) :], profile, profile[: width // 2]])
    return np.convolve(around, np.full(width, 1.0 / width), "valid")


def _at(profile: Floats, phase: NDArray[np.floating]) -> Floats:
    """`profile` at `phase` (in bins), linear between bins, around the circle."""
    return np.interp(phase, np.arange(len(profile)), profile, period=len(profile))
