"""The second witness: a small detector that knows only the asked query; knows nothing of models, lines or flags.

It sees one metric, with another arithmetic than the first one (medians instead of clipped means, one time scale),
so that what both find unusual is seldom noise. Source of the formula: the reference of docs/detection.md.
"""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from outliers.infer.scales import Floats, quantiles, robust_size, settled, window_sum

AGREES = 3.0  # score from which the witness agrees
NEAR = 3  # points that may lie between what it saw and what it confirms
LEAST_POINTS = 8

DAY_S = 86_400
DAYS_NEEDED = 2.5
DAYS_REMEMBERED = 28  # causal
CLIP = 30.0


def score(values: Floats, timestamps: NDArray[np.int64], step_s: int, mode: str = "whole") -> NDArray[np.float32]:
    """How unusual each of `values` [T] (NaN = missing, scored 0) is within the query, [T]; about 1 for usual noise.

    Three residuals (to the day's profile, to a median over two hours besides, to the point before), each in units of
    its own size and clipped; root of their mean square over ten minutes. Causal: everything trails the point.
    """
    causal = mode == "causal"
    values = np.asarray(values, dtype=np.float64)
    missing = ~np.isfinite(values)
    known = np.flatnonzero(~missing)
    if len(values) < LEAST_POINTS or not len(known) or np.ptp(values[known]) == 0:
        return np.zeros(len(values), np.float32)
    if len(known) == len(values):
        x = values
    elif causal:
        x = _carried_forward(values, known)
    else:
        x = np.interp(np.arange(len(values)), known, values[known])
    step_s = max(step_s, 1)
    smooth = min(max(round(600 / step_s), 1), 9)
    smooth += 1 - smooth % 2
    flat = x - profile(x, timestamps, step_s, causal)
    around = min(max(round(7200 / step_s), 13), 241) | 1
    if causal:
        detrended = flat - _trailing_median(flat, around)
    else:
        detrended = flat - rolling_median(flat, min(around, max(11, len(x) // 6)) | 1)
    residuals = np.stack([detrended, flat, np.diff(x, prepend=x[0])])
    energy = np.mean(in_sizes(residuals, causal) ** 2, axis=0)
    result = np.sqrt(_moving_mean(energy, smooth, causal))
    result[missing] = 0.0
    return result.astype(np.float32)


def agreement(scores: NDArray[np.float32], mode: str = "whole") -> NDArray[np.bool_]:
    """Where the witness agrees: its score reaches AGREES within NEAR points (causal: here or before)."""
    seen = (scores >= AGREES).astype(np.float64)
    return np.asarray(window_sum(seen, NEAR, 0 if mode == "causal" else NEAR) > 0.5)


def _carried_forward(values: Floats, known: NDArray[np.intp]) -> Floats:
    """Missing points as the last observed one before them (the first observed one at the start)."""
    last = np.zeros(len(values), np.intp)
    last[known] = known
    return np.asarray(values[np.maximum(np.maximum.accumulate(last), known[0])])


def _moving_mean(x: Floats, width: int, causal: bool) -> Floats:
    if width == 1:
        return x
    if causal:
        count = np.minimum(np.arange(1.0, len(x) + 1), width)
        return np.maximum(window_sum(x, width - 1, 0), 0.0) / count
    padded = np.pad(x, width // 2, mode="edge")
    total = np.cumsum(np.concatenate([[0.0], padded]))
    return np.maximum(total[width:] - total[:-width], 0.0) / width


def rolling_median(x: Floats, width: int) -> Floats:
    """Median around each point: at every eighth of a window, linear between."""
    points = len(x)
    width = min(width, (points - 1) | 1 if points > 3 else 1)
    if width < 5:
        return np.full(points, np.median(x))
    stride = max(width // 8, 1)
    at = np.minimum(np.arange(0, points + stride, stride), points - 1)
    windows = sliding_window_view(np.pad(x, width // 2, mode="edge"), width)[at]
    return np.interp(np.arange(points), at, np.partition(windows, width // 2, axis=1)[:, width // 2])


def _trailing_median(x: Floats, width: int) -> Floats:
    """Median of the `width` points before each point, renewed at every eighth of a window."""
    points = len(x)
    stride = max(width // 8, 1)
    at = np.arange(0, points, stride)
    padded = np.concatenate([np.full(width, np.nan), x])
    medians = quantiles(sliding_window_view(padded, width)[at], (0.5,))[0][:, 0]
    medians[0] = x[0]
    return medians[np.arange(points) // stride]


def in_sizes(residuals: Floats, causal: bool) -> Floats:
    """Residuals [C, T] in units of their usual size, clipped; causal: 0 while too little was seen."""
    centre = settled(_middle, residuals, causal)
    away = np.abs(residuals - centre)
    size = settled(robust_size, away, causal)
    return np.nan_to_num(np.minimum(away / np.maximum(size, 1e-12), CLIP))


def _middle(x: Floats) -> Floats:
    return quantiles(x, (0.5,))[0]


def profile(x: Floats, timestamps: NDArray[np.int64], step_s: int, causal: bool) -> Floats:
    """Median over days at each time of day, smoothed, [T]; 0 with fewer than two and a half days."""
    bins = round(DAY_S / step_s)
    explained = np.zeros(len(x))
    if bins < 4 or len(x) < (DAYS_NEEDED - 0.5 * causal) * bins:
        return explained
    bin_ = np.round((timestamps % DAY_S) / step_s).astype(np.int64) % bins
    day = timestamps // DAY_S
    day = day - day[0]
    table = np.full((int(day[-1]) + 1, bins), np.nan)
    table[day, bin_] = x
    if not causal:
        return _daily(table)[bin_]
    starts = np.flatnonzero(np.diff(day, prepend=-1))
    for start, stop in zip(starts, [*starts[1:], len(x)]):
        if start >= (DAYS_NEEDED - 0.5) * bins:
            past = table[max(0, day[start] - DAYS_REMEMBERED) : day[start]]
            explained[start:stop] = _daily(past)[bin_[start:stop]]
    return explained


def _daily(table: Floats) -> Floats:
    bins = table.shape[1]
    count = (~np.isnan(table)).sum(axis=0)
    ordered = np.sort(table, axis=0)
    column = np.arange(bins)
    low, high = np.maximum(count - 1, 0) // 2, np.minimum(count // 2, len(table) - 1)
    median = 0.5 * (ordered[low, column] + ordered[high, column])
    seen = np.flatnonzero(~np.isnan(median))
    if len(seen) < bins:
        median = np.interp(column, seen, median[seen], period=bins)
    width = max(3, bins // 96) | 1
    around = np.concatenate([median[-(width // 2) :], median, median[: width // 2]])
    return np.convolve(around, np.full(width, 1.0 / width), "valid")
