"""The reference detector to beat: no training, one time scale; knows nothing of judge, lines or lead-in.

With one metric it is what `outliers.infer.witness` computes (the daily profile where there are 2.5 days, a median over
two hours, the first difference; mean square over ten minutes), flagged above 3.5. With several: the mean over metrics
of the detrended residual, smoothed over 9 points, its highest 1 % flagged.
"""

from __future__ import annotations

import numpy as np

from benchmarks.labelled import DAY_S
from outliers.infer import witness
from outliers.series import Series

LINE = 3.5
SHARE_OF_SEVERAL = 0.01
SMOOTH = 9


def answer(series: Series) -> tuple[np.ndarray, np.ndarray]:
    """(score, flag), [T] each."""
    if len(series.metrics) == 1:
        score = witness.score(series.values[:, 0], series.timestamps, series.step_s)
        return score, score > LINE
    sizes = [_detrended(series.values[:, column], series) for column in range(len(series.metrics))]
    mean = np.mean(sizes, axis=0)
    padded = np.pad(mean, SMOOTH // 2, mode="edge")
    score = np.convolve(padded, np.full(SMOOTH, 1.0 / SMOOTH), "valid")
    return score, score > np.quantile(score, 1.0 - SHARE_OF_SEVERAL)


def _detrended(values: np.ndarray, series: Series) -> np.ndarray:
    missing = ~np.isfinite(values)
    if missing.all():
        return np.zeros(len(values))
    known = np.flatnonzero(~missing)
    x = np.interp(np.arange(len(values)), known, values[known])
    flat = x - witness.profile(x, series.timestamps, series.step_s, causal=False)
    around = min(241, max(11, len(x) // 6)) | 1
    return witness.in_sizes((flat - witness.rolling_median(flat, around))[None], causal=False)[0]


def answer_causal(series: Series, first: int) -> tuple[np.ndarray, np.ndarray]:
    """(score, flag), [T] each: from point `first` on, each is the last of an answer about the day that ends at it."""
    score, flag = np.zeros(len(series)), np.zeros(len(series), np.bool_)
    window = max(DAY_S // series.step_s, 288)
    for point in range(first, len(series)):
        start = max(0, point + 1 - window)
        past = Series(
            series.timestamps[start : point + 1],
            series.values[start : point + 1],
            series.metrics,
            series.granularity,
            series.step_s,
        )
        if len(past) >= witness.LEAST_POINTS:
            scores, flags = answer(past)
            score[point], flag[point] = scores[-1], flags[-1]
    return score, flag
