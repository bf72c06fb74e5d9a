"""Whether a model may be published: it catches broken models, it does not look for better ones.

It must not know where models come from or go; there are no labels in production, so it only sees held-out time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Optional

import numpy as np

from export.parity import torch_scores
from outliers.errors import ModelUnsuited
from outliers.infer.metadata import Line
from outliers.infer.model import Model
from outliers.infer.ratios import as_ratios
from outliers.infer.scores import Scores
from outliers.series import Series
from outliers.train import calibrate
from outliers.train.fit import Fitted

WORSE, WORSE_DAYS = 1.5, 1.0  # times the error of what it is compared with, and so much more over the days of its past
ALARMS_TIMES, ALARMS_MORE = 4.0, 5  # the most in days: so many times the stated rate, and a handful
MOST_FLAGGED = 0.25  # share of points: one alarm that never ends is one alarm
FOUND_SHARE = 0.5
STATED = 0.25  # alarms a day
_LEAST_POINTS = 100  # held-out points of a granularity, below which it is not judged
_SHORT, _SHORT_QUERIES = 64, 5  # points of a short query, and how many are asked
_INJECTED = ((10.0, 12), (3.0, 12), (0.0, 12), (10.0, 2))  # factor on the value, points


@dataclass(frozen=True)
class GateResult:
    """passed, and if not, why, one sentence a granularity and check. figures: what was measured.

    refused: granularities at which alone it fails, with why; empty where it fails as a whole.
    """

    passed: bool
    reasons: tuple[str, ...] = ()
    figures: Mapping[str, Any] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Trial:
    """Held-out time of a granularity: the series with a lead-in, and the row where what is judged begins."""

    series: Series
    first: int


def gate(
    fitted: Fitted,
    lines: Mapping[str, Mapping[str, Line]],
    trials: Mapping[str, Trial],
    held_by: Mapping[tuple[str, str], calibrate.Held],
    serving: Optional[Model] = None,
) -> GateResult:
    """Judge a model that was fitted without the held-out time; lines were calibrated on its first half.

    trials: granularity -> held-out time (trimmed, NaN = missing). held_by: the same, scored at k = 1, by (granularity,
    mode). serving: the model that is served now.
    """
    reasons, figures, refused = _sound(fitted), {}, {}
    if reasons:
        return GateResult(False, tuple(reasons))
    for name, trial in trials.items():
        if len(trial.series) - trial.first < _LEAST_POINTS:
            continue
        old = _serves(serving, name, fitted.metrics)
        found, measured = _judge_granularity(fitted, lines[name]["whole"], trial, held_by[name, "whole"], old)
        reasons += [f"{name}: {reason}" for reason in found]
        figures[name] = measured
        if found:
            refused[name] = "; ".join(found)
    return GateResult(not reasons, tuple(reasons), figures, refused)


def _sound(fitted: Fitted) -> list[str]:
    """What can be told without data: finite numbers, and a loss that training did not make worse."""
    p = fitted.parameters
    arrays = [p.center, p.spread, p.tau, p.limit, p.daily, p.weekly, p.embedding, *p.weights.values()]
    if not all(np.isfinite(a).all() for a in arrays):
        return ["the model holds numbers that are not finite"]
    t = fitted.training
    if not np.isfinite([t.train_loss, t.validation_loss]).all() or t.validation_loss > 1.05 * t.first_loss:
        return [f"the network did not converge (loss {t.validation_loss:.3g}, before training {t.first_loss:.3g})"]
    return []


def _serves(serving: Optional[Model], granularity: str, metrics: tuple[str, ...]) -> Optional[Model]:
    """The served model where it can answer the same question."""
    if serving is None or granularity not in serving.meta.granularities or set(serving.meta.metrics) != set(metrics):
        return None
    return serving


def _judge_granularity(
    fitted: Fitted, line: Line, trial: Trial, h: calibrate.Held, serving: Optional[Model]
) -> tuple[list[str], dict[str, float]]:
    reasons = []
    k = line.k(STATED)
    scores = torch_scores(fitted, trial.series, k, "whole")
    values = trial.series.values[trial.first :]
    if (np.isfinite(values) & ~np.isfinite(scores.score[trial.first :])).any():
        return ["scores are not finite on held-out time"], {}
    granularity = list(fitted.granularities).index(trial.series.granularity)
    units = fitted.parameters.spread[granularity], fitted.parameters.offset[granularity]
    error = _error(values, scores.expected[trial.first :], *units)
    known = {"a moving mean": _error(values, _neighbours(trial.series.values)[trial.first :], *units)}
    old = _answer(serving, trial.series)
    if old is not None:
        known["the served model"] = _error(values, old.expected[trial.first :], *units)
    better = min(known, key=lambda name: known[name])
    days = fitted.points[trial.series.granularity] * trial.series.step_s / 86_400
    if error > (WORSE + WORSE_DAYS / days) * known[better] + 1e-6:
        reasons.append(
            f"its expected values are {error / max(known[better], 1e-9):.1f} times as far off as those of {better}"
        )
    second = h.part(0.5, 1.0)
    count, most = calibrate.alarms(second, k), int(ALARMS_TIMES * STATED * second.days) + ALARMS_MORE
    if count > most:
        reasons.append(f"{count} alarms in {second.days:.1f} days of held-out time, where {most} are the most")
    share = float(calibrate.confirmed(second, k)[second.first :].mean())
    if share > MOST_FLAGGED:
        reasons.append(f"{share:.0%} of the points of held-out time are anomalies to it")
    share = _short_share(fitted, trial, k)
    if share > MOST_FLAGGED:
        reasons.append(f"{share:.0%} of the points of short queries are anomalies to it")
    figures = {"error": error, "error_of_others": known[better], "alarms": count, "days": second.days, "k": k}
    if serving is not None and old is not None:
        mine, theirs = _found(lambda s: torch_scores(fitted, s, k, "whole"), serving, trial)
        figures.update(found=mine, found_by_served=theirs)
        if mine < FOUND_SHARE * theirs:
            reasons.append(f"it finds {mine:.0%} of injected excursions, the served model {theirs:.0%}")
    return reasons, figures


def _short_share(fitted: Fitted, trial: Trial, k: float) -> float:
    """Share of points over the line in a few short queries of held-out time, which know nothing but the model."""
    s, over = trial.series, []
    for start in np.linspace(trial.first, len(s) - _SHORT, _SHORT_QUERIES).astype(int):
        rows = slice(start, start + _SHORT)
        query = Series(s.timestamps[rows], s.values[rows], s.metrics, s.granularity, s.step_s)
        scores = torch_scores(fitted, query, k, "whole")
        over.append((np.nan_to_num(scores.score) >= 1).any(1).mean())
    return float(np.median(over))


def _answer(model: Optional[Model], series: Series) -> Optional[Scores]:
    if model is None:
        return None
    try:
        scores = model.score(series, alarms_per_day=STATED)
    except ModelUnsuited:
        return None
    order = [model.meta.metrics.index(m) for m in series.metrics]
    return Scores(*(part[:, order] for part in scores))


def _error(values: np.ndarray, expected: np.ndarray, spread: np.ndarray, offset: np.ndarray) -> float:
    """Mean over the metrics of the mean distance in usual spreads, or of its ratio's; far values count 5."""
    away = np.minimum(np.abs(as_ratios(values, offset) - as_ratios(expected, offset)) / spread, 5.0)
    seen = np.isfinite(away)
    each = np.nansum(away, 0) / np.maximum(seen.sum(0), 1)
    return float(each[seen.any(0)].mean()) if seen.any() else 0.0


def _neighbours(values: np.ndarray, half: int = 4) -> np.ndarray:
    """Mean of the points around each, itself left out."""
    zero = np.zeros((1, values.shape[1]))
    total = np.cumsum(np.concatenate([zero, np.nan_to_num(values)]), axis=0)
    count = np.cumsum(np.concatenate([zero, np.isfinite(values)]), axis=0)
    t = np.arange(len(values))
    low, high = np.maximum(t - half, 0), np.minimum(t + half + 1, len(values))
    n = count[high] - count[low] - np.isfinite(values)
    return np.where(n > 0, (total[high] - total[low] - np.nan_to_num(values)) / np.maximum(n, 1), np.nan)


def _found(score: Any, serving: Model, trial: Trial) -> tuple[float, float]:
    """Share of excursions put into the held-out time that each model's score takes over its line."""
    n = len(trial.series) - trial.first
    places = [trial.first + int(n * (i + 0.5) / (3 * len(_INJECTED))) for i in range(3 * len(_INJECTED))]
    values = trial.series.values.copy()
    spans = []
    for place, (factor, points) in zip(places, _INJECTED * 3):
        span = slice(place, min(place + points, len(values)))
        values[span] = values[span] * factor
        spans.append(span)
    s = trial.series
    changed = Series(s.timestamps, values, s.metrics, s.granularity, s.step_s)
    mine, theirs = score(changed).score, _answer(serving, changed)
    if theirs is None:
        return 1.0, 0.0
    return tuple(
        float(np.mean([np.nan_to_num(x[span]).max(initial=0.0) >= 1.0 for span in spans])) for x in (mine, theirs.score)
    )  # type: ignore[return-value]
