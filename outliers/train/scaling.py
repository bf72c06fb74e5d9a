"""A metric's usual value, spread and rhythm, learned robustly; it must not know the network or the scores."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Optional

import numpy as np
from numpy.typing import NDArray

from export.arithmetic import CLIP_SCALED, DAY_S, LEAST_UNIT, WEEK_S

Floats = NDArray[np.float64]
_FACTORS = np.array([0.0, 0.25, 0.5, 0.75, 1.0])
_FOLDS = 4
_MOST_DAY_BINS, _MOST_WEEK_BINS = 288, 336
_LEAST_REMAINDER = 0.1
_MIN_DAYS, _MIN_WEEKS = 3, 2
_WEEK_GAIN = 0.03
_UNIT_BINS, _UNIT_GAIN = 12, 0.05
_UNIT_DAYS = 4  # of the past; a rhythm from fewer is too uncertain to say how noise goes with it


@dataclass(frozen=True)
class Rhythm:
    """The usual course of a cycle in scaled units [bins, M]; all zero where none predicts.

    without [F, bins, M]: the same, each learned without a part of the cycles: what it would have been for someone who
    has not seen them. Cycles are counted back from last_s (Unix seconds); the i-th is left out of the table i % F.
    """

    cycle_s: int
    table: Floats
    without: Floats
    last_s: int

    def at(self, timestamps: NDArray[np.int64], step_s: int, unseen: bool = False) -> Floats:
        """Linear between the middles of the bins, as the graph has it: [T, M].

        unseen: at each time by the table that was learned without it.
        """
        bins = len(self.table)
        position = ((timestamps % self.cycle_s) + step_s / 2) * bins / self.cycle_s - 0.5
        below = np.floor(position).astype(np.int64)
        part = (position - below)[:, None]
        if unseen and len(self.without):
            fold = (self.last_s - timestamps) // self.cycle_s % len(self.without)
            return self.without[fold, below % bins] * (1 - part) + self.without[fold, (below + 1) % bins] * part
        return self.table[below % bins] * (1 - part) + self.table[(below + 1) % bins] * part

    def times(self, factor: Floats) -> Rhythm:
        """The same with each metric's course times a factor [M]."""
        return Rhythm(self.cycle_s, self.table * factor, self.without * factor, self.last_s)


@dataclass(frozen=True)
class Scaling:
    """center, spread [M] in raw units; daily and weekly rhythm; unit, unit_slope [M] as `Parameters` has them."""

    center: Floats
    spread: Floats
    daily: Rhythm
    weekly: Rhythm
    unit: Floats
    unit_slope: Floats

    def deviations(self, timestamps: NDArray[np.int64], values: Floats, step_s: int, unseen: bool = False) -> Floats:
        """Values less their rhythm in usual deviations [T, M], NaN where missing.

        unseen: less a rhythm that was learned without them, as it is for time to come.
        """
        course = self.daily.at(timestamps, step_s, unseen) + self.weekly.at(timestamps, step_s, unseen)
        scaled = np.clip((values - self.center) / self.spread, -CLIP_SCALED, CLIP_SCALED)
        return (scaled - course) / np.maximum(self.unit + self.unit_slope * course, LEAST_UNIT)


def robust_size(r: Floats) -> Floats:
    """Usual size of residuals [M], of deviation 1 for normal noise: the larger of 1.4826 MAD and Q95 / 1.96."""
    half, high = sorted_quantiles(np.abs(r), (0.5, 0.95))
    return np.maximum(1.4826 * half, high / 1.96)


def rescaled(scaling: Scaling, g: Floats) -> Scaling:
    """The same in units of what the rhythm leaves over (a tenth of the spread at least): the network sees its size."""
    size = np.nan_to_num(robust_size(g - np.nan_to_num(quantile(g, 0.5))))
    size = np.clip(np.where(size > 0, size, 1.0), _LEAST_REMAINDER, 1.0)
    daily, weekly = (r.times(1.0 / size) for r in (scaling.daily, scaling.weekly))
    return Scaling(
        scaling.center, scaling.spread * size, daily, weekly, scaling.unit, scaling.unit_slope * size
    )  # fmt: skip


def quantile(values: Floats, share: float) -> Floats:
    """A quantile of each column over what is not NaN (its lower neighbour, no interpolation); NaN for an empty one."""
    return sorted_quantiles(values, (share,))[0]


def sorted_quantiles(values: Floats, shares: tuple[float, ...]) -> list[Floats]:
    """Several quantiles from one sort, each [M]."""
    rows = np.ascontiguousarray(values.T)  # rows of memory sort ten times as fast; NaN go last
    count = np.isfinite(values).sum(0)
    places = [np.clip(np.round(share * (count - 1)).astype(int), 0, len(values) - 1) for share in shares]
    wanted = np.unique(places)
    # one place is found in less than half the time of a sort, two are not
    ordered = np.partition(rows, wanted[0], axis=1) if len(wanted) == 1 else np.sort(rows, axis=1)
    columns = np.arange(len(ordered))
    return [np.where(count > 0, ordered[columns, at], np.nan) for at in places]


def fit_scaling(
    timestamps: NDArray[np.int64], values: Floats, step_s: int, known_week: Optional[Rhythm] = None
) -> Scaling:
    """Learn center, spread, rhythm and unit of each metric from values [T, M], NaN = missing.

    known_week: the weekly rhythm of a coarser granularity, for one whose past is too short to show it.
    """
    center, low, high = sorted_quantiles(values, (0.5, 0.05, 0.95))
    center = np.nan_to_num(center)
    deviation = np.abs(values - center)
    spread = np.maximum(1.4826 * np.nan_to_num(quantile(deviation, 0.5)), np.nan_to_num(high - low) / 3.29)
    spread = np.where(spread > 0, spread, _spread_of_rare(deviation))
    spread = np.maximum(spread, np.maximum(np.abs(center) * 1e-4, 1e-9))
    scaled = np.clip((values - center) / spread, -CLIP_SCALED, CLIP_SCALED)
    day_bins = int(np.clip(round(DAY_S / step_s), 1, _MOST_DAY_BINS))

    def fit_day(x: Floats) -> Rhythm:
        return _fit_rhythm(timestamps, x, DAY_S, day_bins, max(1, day_bins // 96) | 1, _MIN_DAYS, 0.02)

    if known_week is not None:
        weekly = _as_much_as_helps(known_week, timestamps, scaled, step_s, fit_day)
        daily = fit_day(scaled - weekly.at(timestamps, step_s))
    else:
        daily = fit_day(scaled)
        week_bins = int(np.clip(round(WEEK_S / step_s), 1, _MOST_WEEK_BINS))
        remainder = scaled - daily.at(timestamps, step_s)
        weekly = _fit_rhythm(timestamps, remainder, WEEK_S, week_bins, 1, _MIN_WEEKS, 0.03)
    course = daily.at(timestamps, step_s) + weekly.at(timestamps, step_s)
    # The rhythm is one of deviations from each day's own median: what remains is brought around 0.
    center = center + np.nan_to_num(quantile(scaled - course, 0.5)) * spread
    scaled = np.clip((values - center) / spread, -CLIP_SCALED, CLIP_SCALED)
    days = len(timestamps) * step_s / DAY_S
    return Scaling(center, spread, daily, weekly, *_fit_unit(course, scaled - course, days))


def _as_much_as_helps(
    week: Rhythm, timestamps: NDArray[np.int64], scaled: Floats, step_s: int, fit_day: Callable[[Floats], Rhythm]
) -> Rhythm:
    """A share of a weekly rhythm per metric: the one whose remainder, less its own daily rhythm, is smallest.

    In scaled units the rhythms of two granularities are alike: each is measured by its own spread.
    """
    course = week.at(timestamps, step_s)
    errors = []
    for factor in _FACTORS:
        remainder = scaled - factor * course
        remainder = remainder - fit_day(remainder).at(timestamps, step_s)
        remainder = np.abs(remainder - np.nan_to_num(quantile(remainder, 0.5)))
        errors.append(np.nansum(remainder, axis=0))
    error = np.array(errors)
    factor = np.where(error.min(0) < (1 - _WEEK_GAIN) * error[0], _FACTORS[error.argmin(0)], 0.0)
    return week.times(factor)


def _fit_unit(course: Floats, remainder: Floats, days: float) -> tuple[Floats, Floats]:
    """Unit and slope [M]: how noise grows with the rhythm; 1 and 0 where that does not describe it better.

    Noise: the difference of neighbours, in which there is no level. Better: the mean log-likelihood of a Laplace
    distribution rises by _UNIT_GAIN, over _UNIT_DAYS at least. The unit is 1 at the middle of the points.
    """
    unit, slope = np.ones(course.shape[1]), np.zeros(course.shape[1])
    if days < _UNIT_DAYS:
        return unit, slope
    noise = np.abs(np.diff(remainder, axis=0, prepend=np.nan))
    for j in range(course.shape[1]):
        there = np.isfinite(noise[:, j])
        c, size = course[there, j], noise[there, j]
        if len(c) < 10 * _UNIT_BINS or np.ptp(c) == 0:
            continue
        bins = np.array_split(np.argsort(c, kind="stable"), _UNIT_BINS)
        rise, base = np.polyfit([c[b].mean() for b in bins], [np.median(size[b]) for b in bins], 1)
        fitted = np.maximum(base + rise * c, LEAST_UNIT * np.median(size))
        middle = np.median(fitted)
        if rise <= 0 or fitted.min() <= 0:  # the latter: it hardly ever moves
            continue
        size = np.minimum(size, 5 * np.maximum(fitted, np.median(size)))
        gain = np.log(size.mean()) - np.log((size / fitted).mean()) - np.log(fitted).mean()
        if gain > _UNIT_GAIN:
            unit[j], slope[j] = base / middle, rise / middle
    return unit, slope


def _spread_of_rare(deviation: Floats) -> Floats:
    """Spread of a metric that hardly ever moves: the size of its moves over 3, or 1 where it never did."""
    moved = np.where(deviation > 0, deviation, np.nan)
    typical = np.nan_to_num(quantile(moved, 0.5))
    return np.where(typical > 0, typical / 3, 1.0)


def _fit_rhythm(
    timestamps: NDArray[np.int64], scaled: Floats, cycle_s: int, bins: int, smooth: int, least: int, gain: float
) -> Rhythm:
    """Median course over the cycles, as much of it as predicts cycles that were left out; none if too few."""
    metrics = scaled.shape[1]
    last_s = int(timestamps[-1]) if len(timestamps) else 0
    none = Rhythm(cycle_s, np.zeros((1, metrics)), np.zeros((0, 1, metrics)), last_s)
    cycles, age = _by_cycle(timestamps, scaled, cycle_s, bins)
    if bins < 2 or len(cycles) < least:
        return none
    cycles -= _median(cycles.reshape(len(cycles), bins, metrics), 1)[:, None]
    folds = age % min(_FOLDS, len(cycles))
    error = np.zeros((len(_FACTORS), metrics))
    without = np.stack([_course(cycles[folds != fold], smooth) for fold in range(folds.max() + 1)])
    for fold, table in enumerate(without):
        left_out = cycles[folds == fold]
        for i, factor in enumerate(_FACTORS):
            error[i] += np.nansum(np.abs(left_out - factor * table), axis=(0, 1))
    best = error.argmin(0)
    better = error.min(0) < (1 - gain) * error[0]
    factor = np.where(better, _FACTORS[best], 0.0)
    if not factor.any():
        return none
    return Rhythm(cycle_s, _course(cycles, smooth), without, last_s).times(factor)


def _by_cycle(
    timestamps: NDArray[np.int64], scaled: Floats, cycle_s: int, bins: int
) -> tuple[Floats, NDArray[np.int64]]:
    """Mean of each bin of each cycle [N, bins, M], NaN where nothing was seen, and how many cycles ago it was [N].

    Counted back from the newest point: two weeks are two whole cycles, whatever day they begin on. Cycles that are
    mostly empty are left out.
    """
    ago = (timestamps[-1] - timestamps) // cycle_s
    n = int(ago[0]) + 1
    cell = (n - 1 - ago) * bins + (timestamps % cycle_s) * bins // cycle_s
    result = np.empty((n * bins, scaled.shape[1]))
    for j in range(scaled.shape[1]):
        there = np.isfinite(scaled[:, j])
        count = np.bincount(cell[there], minlength=n * bins)
        total = np.bincount(cell[there], scaled[there, j], minlength=n * bins)
        result[:, j] = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    cycles: Floats = result.reshape(n, bins, -1)
    full = np.isfinite(cycles).any(2).mean(1) >= 0.5
    return cycles[full], np.arange(n)[::-1][full]


def _median(x: Floats, axis: int) -> Floats:
    """Median over what is not NaN, 0 where nothing is."""
    ordered = np.sort(np.ascontiguousarray(np.moveaxis(x, axis, -1)), axis=-1)
    count = np.isfinite(ordered).sum(-1, keepdims=True)
    low = np.take_along_axis(ordered, np.maximum((count - 1) // 2, 0), -1)
    high = np.take_along_axis(ordered, np.minimum(count // 2, ordered.shape[-1] - 1), -1)
    high = np.where(count > 0, np.where(np.isfinite(high), high, low), 0.0)
    return ((np.nan_to_num(low) + high) / 2).squeeze(-1)


def _course(cycles: Floats, smooth: int) -> Floats:
    """Median over cycles [bins, M], smoothed around the circle."""
    course = _median(cycles, 0)
    if smooth <= 1:
        return course
    half = smooth // 2
    around = np.concatenate([course[-half:], course, course[:half]])
    total = np.cumsum(np.concatenate([np.zeros((1, course.shape[1])), around]), axis=0)
    return (total[smooth:] - total[:-smooth]) / smooth
