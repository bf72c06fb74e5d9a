"""A metric's usual value, spread and rhythm, learned robustly; it must not know the network or the scores."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from export.arithmetic import CLIP_SCALED, DAY_S, WEEK_S

Floats = NDArray[np.float64]
_FACTORS = np.array([0.0, 0.25, 0.5, 0.75, 1.0])
_FOLDS = 4
_MOST_DAY_BINS, _MOST_WEEK_BINS = 288, 168
_LEAST_REMAINDER = 0.1
_MIN_DAYS, _MIN_WEEKS = 3, 2


@dataclass(frozen=True)
class Rhythm:
    """The usual course of a cycle in scaled units [bins, M]; all zero where none predicts."""

    cycle_s: int
    table: Floats

    def at(self, timestamps: NDArray[np.int64], step_s: int) -> Floats:
        """Linear between the middles of the bins, as the graph has it: [T, M]."""
        bins = len(self.table)
        position = ((timestamps % self.cycle_s) + step_s / 2) * bins / self.cycle_s - 0.5
        below = np.floor(position).astype(np.int64)
        part = (position - below)[:, None]
        return self.table[below % bins] * (1 - part) + self.table[(below + 1) % bins] * part


@dataclass(frozen=True)
class Scaling:
    """center, spread [M] in raw units; daily and weekly rhythm."""

    center: Floats
    spread: Floats
    daily: Rhythm
    weekly: Rhythm

    def deviations(self, timestamps: NDArray[np.int64], values: Floats, step_s: int) -> Floats:
        """Scaled values less their rhythm [T, M], NaN where missing."""
        scaled = np.clip((values - self.center) / self.spread, -CLIP_SCALED, CLIP_SCALED)
        return scaled - self.daily.at(timestamps, step_s) - self.weekly.at(timestamps, step_s)


def rescaled(scaling: Scaling, g: Floats) -> Scaling:
    """The same in units of what the rhythm leaves over (a tenth of the spread at least): the network sees its size."""
    half, high = sorted_quantiles(np.abs(g - np.nan_to_num(quantile(g, 0.5))), (0.5, 0.95))
    size = np.nan_to_num(np.maximum(1.4826 * half, high / 1.96))
    size = np.clip(np.where(size > 0, size, 1.0), _LEAST_REMAINDER, 1.0)
    daily, weekly = (Rhythm(r.cycle_s, r.table / size) for r in (scaling.daily, scaling.weekly))
    return Scaling(scaling.center, scaling.spread * size, daily, weekly)


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


def fit_scaling(timestamps: NDArray[np.int64], values: Floats, step_s: int) -> Scaling:
    """Learn center, spread and rhythm of each metric from values [T, M], NaN = missing."""
    center, low, high = sorted_quantiles(values, (0.5, 0.05, 0.95))
    center = np.nan_to_num(center)
    deviation = np.abs(values - center)
    spread = np.maximum(1.4826 * np.nan_to_num(quantile(deviation, 0.5)), np.nan_to_num(high - low) / 3.29)
    spread = np.where(spread > 0, spread, _spread_of_rare(deviation))
    spread = np.maximum(spread, np.maximum(np.abs(center) * 1e-4, 1e-9))
    scaled = np.clip((values - center) / spread, -CLIP_SCALED, CLIP_SCALED)
    day_bins = int(np.clip(round(DAY_S / step_s), 1, _MOST_DAY_BINS))
    daily = _fit_rhythm(timestamps, scaled, DAY_S, day_bins, max(1, day_bins // 96) | 1, _MIN_DAYS, 0.02)
    remainder = scaled - daily.at(timestamps, step_s)
    week_bins = int(np.clip(round(WEEK_S / step_s), 1, _MOST_WEEK_BINS))
    weekly = _fit_rhythm(timestamps, remainder, WEEK_S, week_bins, 1, _MIN_WEEKS, 0.03)
    return Scaling(center, spread, daily, weekly)


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
    none = Rhythm(cycle_s, np.zeros((1, metrics)))
    cycles: Floats = _by_cycle(timestamps, scaled, cycle_s, bins)
    if bins < 2 or len(cycles) < least:
        return none
    cycles -= _median(cycles.reshape(len(cycles), bins, metrics), 1)[:, None]
    folds = np.arange(len(cycles)) % min(_FOLDS, len(cycles))
    error = np.zeros((len(_FACTORS), metrics))
    for fold in range(folds.max() + 1):
        table = _course(cycles[folds != fold], smooth)
        left_out = cycles[folds == fold]
        for i, factor in enumerate(_FACTORS):
            error[i] += np.nansum(np.abs(left_out - factor * table), axis=(0, 1))
    best = error.argmin(0)
    better = error.min(0) < (1 - gain) * error[0]
    factor = np.where(better, _FACTORS[best], 0.0)
    if not factor.any():
        return none
    return Rhythm(cycle_s, _course(cycles, smooth) * factor)


def _by_cycle(timestamps: NDArray[np.int64], scaled: Floats, cycle_s: int, bins: int) -> Floats:
    """Mean of each bin of each cycle [N, bins, M], NaN where nothing was seen; cycles mostly empty are left out."""
    cycle = timestamps // cycle_s
    cycle = (cycle - cycle[0]).astype(np.int64)
    cell = cycle * bins + (timestamps % cycle_s) * bins // cycle_s
    n = int(cycle[-1]) + 1
    result = np.empty((n * bins, scaled.shape[1]))
    for j in range(scaled.shape[1]):
        there = np.isfinite(scaled[:, j])
        count = np.bincount(cell[there], minlength=n * bins)
        total = np.bincount(cell[there], scaled[there, j], minlength=n * bins)
        result[:, j] = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    cycles: Floats = result.reshape(n, bins, -1)
    return cycles[np.isfinite(cycles).any(2).mean(1) >= 0.5]


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
