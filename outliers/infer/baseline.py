"""The detector that needs no model: residuals of a series at several time scales, by what the query itself shows.

Knows nothing of models, flags or HTTP; the judge makes the answer of what it returns.

Three predictions of each point (a level over a week, a level over two hours, the point before) leave three residuals,
each in units of its own usual size. Their mean square is averaged over 3 to 271 points, each average divided by what it
usually reaches (its 99 % quantile); the root of the largest is the distance, and the score is distance ÷ line.
"""

from __future__ import annotations

from typing import NamedTuple, Optional

import numpy as np

from outliers.infer import habit, ratios
from outliers.infer.judge import OWN_SHARE
from outliers.infer.reach import Reach, reach
from outliers.infer.rhythm import PERIODS_NEEDED, rhythm
from outliers.infer.scales import Bools, Floats, Windows, quantiles, robust_size, settled
from outliers.infer.scores import Scores
from outliers.series import Series

LINE = {"whole": 1.25, "causal": 1.8}  # distances at sensitivity 0.95; 1 is the quantile of what is usual
DEFAULT_SENSITIVITY = 0.95
DEFAULT_CONTAMINATION = 0.01

WEEK_S = 7 * 86_400
# The near level: what lies around a point, or, causally, just before it: a level that trails must be short to be near.
NEAR_S = {"whole": 7_200, "causal": 1_800}
GONE = 9.0  # usual sizes from the level of a week, beyond which a point has left its level
FAR = 6.0  # usual sizes from what came just before, beyond which a value counts no more towards the level of a week
LEFT = 0.2  # of the points of a window: fewer that have not left mean that the level has moved
SORTED_AT_ONCE = 1024  # windows: all of a long series would take gigabytes
LEAST_RELATIVE_SIZE = 1e-3  # of the metric's median: smaller moves of a flat series are rounding


class _Predictions(NamedTuple):
    """Predictions of the same points, [3, M, T] each: `at` (NaN = none), `weight` = 1 / size² (0 = none)."""

    at: Floats
    weight: Floats


def line(k: Optional[float], mode: str, sensitivity: float = DEFAULT_SENSITIVITY) -> float:
    """Distance of the line: `k` if given, else the mode's own, nearer by 1 / `sensitivity` the more sensitive it is."""
    if k is not None:
        return float(k)
    return LINE[mode] * DEFAULT_SENSITIVITY / min(max(sensitivity, 1e-3), 1.0)


@np.errstate(over="ignore", invalid="ignore")  # what lies near float64's end is infinitely far out
def score(
    series: Series,
    k: Optional[float] = None,
    mode: str = "whole",
    *,
    sensitivity: float = DEFAULT_SENSITIVITY,
    contamination: float = DEFAULT_CONTAMINATION,
) -> tuple[Scores, str]:
    """Score `series` by itself; returns the Scores and one sentence on what there was to judge by.

    k: distance of the line (1 = the usual quantile). mode: "whole", or "causal": each point by the points before it.
    sensitivity (0..1]: moves the line when `k` is not given, to 0.95 / sensitivity of its default distance.
    contamination (0..0.05): share of points that is expected to be unusual; up to ten times as many do not change what
    counts as usual, and the more there are the less it takes to be one of them.
    """
    causal = mode == "causal"
    distance = line(k, mode, sensitivity)
    values = np.ascontiguousarray(series.values.T, dtype=np.float64)  # [M, T]
    seen = np.isfinite(values)
    if values.shape[1] == 0 or not seen.any():
        empty = np.full(series.values.shape, np.nan, np.float32)
        return Scores(empty, empty, empty, empty, empty), "no model, and no value to judge by"
    windows = Windows(seen, causal)
    offset = ratios.offsets(values) if not causal else np.zeros((len(values), 1))
    values = ratios.as_ratios(values, offset)
    predictions = _predict(values, windows, series, causal)
    centre, stiffness, spread = _combined(predictions)
    e = np.where(seen, stiffness * (np.where(seen, values, 0.0) - centre) ** 2 + spread, 0.0)
    share = min(max(contamination, 0.0), 0.05)
    reached = reach(e, windows, distance, share)
    further = None if causal else _usual_excursions(reached, distance, seen, series)
    if further is not None:
        reached = reach(e, windows, distance * further, share)
    half = np.sqrt(np.maximum(reached.room - spread, 0.0) / np.maximum(stiffness, 1e-300))
    forecast = _forecast(predictions, values)
    scores = Scores(
        expected=_column(ratios.raw(forecast, offset)),
        lower=_column(ratios.raw(centre - half, offset)),
        upper=_column(ratios.raw(centre + half, offset)),
        score=_column(np.where(seen, reached.score, np.nan)),
        own=_column(np.where(seen, reached.own, np.nan)),
    )
    return scores, _reason(series, seen)


def _usual_excursions(reached: Reach, distance: float, seen: Bools, series: Series) -> Optional[Floats]:
    """By how much the line lies further out at each point [M, T], None where nowhere."""
    score = np.where(seen, reached.score, 0.0)
    over = (score >= 1.0) & (reached.own >= OWN_SHARE)
    if not over.any():
        return None
    of_day = habit.of_day(np.where(seen, score * distance, np.nan).T, series.timestamps)
    further = of_day[series.timestamps // 3600 % habit.HOURS].T
    for row, (s, o) in enumerate(zip(score / further, over)):
        further[row] *= habit.of_nature(s, o & (s >= 1.0))
    return further if further.max() > 1.0 else None


def _column(x: Floats) -> np.ndarray:
    with np.errstate(over="ignore", invalid="ignore"):
        result = x.T.astype(np.float32)
    result[~np.isfinite(result)] = np.nan
    return result


def _predict(values: Floats, windows: Windows, series: Series, causal: bool) -> _Predictions:
    """The three predictions of each point, rhythm included."""
    seen, step_s = windows.seen, max(series.step_s, 1)
    base = _first_values(values, seen)
    usual = np.stack([rhythm(row, series.timestamps, step_s, causal) for row in values])
    g = np.where(seen, values - usual - base, 0.0)
    week = max(round(WEEK_S / step_s), 13)
    near = int(np.clip(round(NEAR_S["causal" if causal else "whole"] / step_s), 13, 241)) | 1
    at = np.full((3, *g.shape), np.nan)
    if causal:
        at[1] = _trailing_median(g, seen, near)
        at[0] = windows.level(_without_excursions(g, at[1], seen), week, 2)
    else:
        at[0] = windows.level(g, week, 2)
        at[1] = _near_level(g, at[0], near, windows)
    before = np.where(seen, g, np.nan)
    at[2, :, 1:] = before[:, :-1]
    residual = before - at
    size = settled(robust_size, residual, causal)
    least = LEAST_RELATIVE_SIZE * np.abs(settled(_median, np.where(seen, values, np.nan), causal)) + 1e-9
    size = np.maximum(size, least)
    weight = np.where(np.isnan(at) | np.isnan(size), 0.0, 1.0 / size**2)
    return _Predictions(at + usual + base, weight)


def _near_level(g: Floats, far: Floats, width: int, windows: Windows) -> Floats:
    """The level of what lies around each point, without what has left the level of a week, `far`.

    An excursion must not move what is expected before and after it. Where hardly any point is left in a window, the
    series itself has moved, and its level with it.
    """
    away = np.abs(np.where(windows.seen, g - far, np.nan))
    gone = away > GONE * robust_size(away)
    level = windows.level(g, width, 1)
    if not gone.any():
        return level
    left = Windows(windows.seen & ~gone, causal=False)
    window = windows.reach(width)
    enough = left.counts(*window) >= LEFT * windows.counts(*window)
    return np.where(enough, left.level(np.where(gone, 0.0, g), width, 1), level)


def _trailing_median(g: Floats, seen: Bools, width: int) -> Floats:
    """Median of the `width` points before each [M, T], nearest rank; NaN where none was observed."""
    known = np.where(seen, g, np.nan)
    padded = np.concatenate([np.full((len(g), width), np.nan), known[:, :-1]], axis=1)
    medians = np.empty(g.shape)
    for row, of_metric in enumerate(np.lib.stride_tricks.sliding_window_view(padded, width, axis=1)):
        for start in range(0, g.shape[1], SORTED_AT_ONCE):
            ordered = np.sort(of_metric[start : start + SORTED_AT_ONCE], axis=-1)
            middle = np.maximum((~np.isnan(ordered)).sum(-1) - 1, 0) // 2
            medians[row, start : start + SORTED_AT_ONCE] = ordered[np.arange(len(ordered)), middle]
    return medians


def _without_excursions(g: Floats, near: Floats, seen: Bools) -> Floats:
    """The values with nothing further from the level before them than FAR of their usual sizes, causally."""
    away = np.where(seen, g - near, np.nan)
    most = FAR * settled(robust_size, away, causal=True)
    return np.where(np.isnan(away) | np.isnan(most), g, near + np.clip(away, -most, most))


def _first_values(values: Floats, seen: Bools) -> Floats:
    """First observed value of each metric, [M, 1]: a base that keeps running sums small, known from the start."""
    values = np.take_along_axis(values, seen.argmax(axis=1)[:, None], axis=1)
    return np.where(np.isfinite(values), values, 0.0)


def _median(x: Floats) -> Floats:
    return quantiles(x, (0.5,))[0]


def _combined(predictions: _Predictions) -> tuple[Floats, Floats, Floats]:
    """The mean square of a value x's residuals as stiffness · (x - centre)² + spread, [M, T] each."""
    at = np.where(predictions.weight > 0, predictions.at, 0.0)
    count = np.maximum((predictions.weight > 0).sum(axis=0), 1)
    weight = predictions.weight / count
    stiffness = weight.sum(axis=0)
    centre = (weight * at).sum(axis=0) / np.where(stiffness > 0, stiffness, 1.0)
    spread = (weight * (at - centre) ** 2).sum(axis=0)
    return centre, stiffness, spread


def _forecast(predictions: _Predictions, values: Floats) -> Floats:
    """Expected value: the two levels by their weight; where neither is known, what was seen last or is seen first."""
    weight = predictions.weight[:2]
    total = weight.sum(axis=0)
    levels = np.where(weight > 0, predictions.at[:2], 0.0)
    forecast = (weight * levels).sum(axis=0) / np.where(total > 0, total, np.nan)
    for row, known in zip(forecast, np.where(np.isfinite(values), values, np.nan)):
        missing = np.isnan(row)
        if missing.any():
            source = known if missing.all() else np.where(missing, np.nan, row)
            seen = np.flatnonzero(~np.isnan(source))
            if len(seen):
                row[missing] = np.interp(np.flatnonzero(missing), seen, source[seen])
    return forecast


def _reason(series: Series, seen: Bools) -> str:
    points = int(seen.any(axis=0).sum())
    days = (int(series.timestamps[-1]) - int(series.timestamps[0]) + series.step_s) / 86_400
    known = "point" if points == 1 else "points"
    if points < 8:
        return f"no model; {points} {known} are too few to know what is usual"
    if days < PERIODS_NEEDED:
        return f"no model; judged by its own {points} {known}: too short for a daily rhythm ({PERIODS_NEEDED:g} days)"
    if days < 7 * PERIODS_NEEDED:
        return f"no model; judged by its own {points} {known}, daily rhythm included; too short for a weekly one"
    return f"no model; judged by its own {points} {known}, daily and weekly rhythm included"
