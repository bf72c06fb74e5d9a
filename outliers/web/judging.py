"""Gathered rows -> what is said of each: which buckets count, who scores them, the judge; knows no Druid or HTTP."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Optional

import numpy as np
from numpy.typing import NDArray

from outliers.config import Config
from outliers.druid.traffic import RATES, TRAFFIC, with_derived
from outliers.errors import ModelError, ModelUnsuited, Unservable
from outliers.infer import baseline
from outliers.infer.asked import score_asked
from outliers.infer.judge import ANY, Verdict, judge
from outliers.infer.scores import Scores
from outliers.series import Series
from outliers.web.answer import ModelUsed, Rows
from outliers.web.choice import Choice
from outliers.web.gather import Gathered

Bools = NDArray[np.bool_]


class Terms(NamedTuple):
    """How to judge. metric: a name, or `any`. k: None = the line of the model and of the alarm budget."""

    metric: str
    k: Optional[float]
    mode: str


class Buckets(NamedTuple):
    """Which buckets do not count, bool [T] each.

    unknown: before the first event, or where Druid holds no segment. partial: the interval holds only a part of it.
    unfinished: events may still arrive.
    """

    unknown: Bools
    partial: Bools
    unfinished: Bools


@dataclass(frozen=True)
class Judged:
    """The verdict on a series, lead-in included. actual: float64 [T, M] of the verdict's metrics, as Druid gave it."""

    verdict: Verdict
    actual: NDArray[np.float64]
    buckets: Buckets
    model: ModelUsed


def buckets_of(gathered: Gathered) -> Buckets:
    parsed, times = gathered.parsed, gathered.times
    unknown = gathered.unloaded
    if times.first_known:
        unknown = unknown | (parsed.ends_s <= times.first_s if times.first_s is not None else True)
    return Buckets(unknown, parsed.partial, parsed.ends_s > gathered.complete_until_s)


def judge_rows(gathered: Gathered, own: tuple[str, ...], terms: Terms, choice: Choice, config: Config) -> Judged:
    """Judge gathered rows by the chosen model, or without one where it cannot: the reason is told.

    own: the caller's metrics, which the detector without a model looks at.
    """
    buckets = buckets_of(gathered)
    out = buckets.unknown | buckets.partial | buckets.unfinished
    reason = choice.reason
    if choice.model is not None:
        meta = choice.model.meta
        series = with_derived(gathered.parsed.series, gathered.parsed.seconds, meta.metrics)
        try:
            if terms.metric not in (ANY, *meta.metrics):
                raise ModelUnsuited(f"it does not know {terms.metric!r}")
            line = choice.model.threshold(series.granularity, terms.mode, config.detection.alarms_per_day)
            scorer = _ModelScorer(choice.model, terms, config)
            actual = _select(series, [name for name in meta.metrics if name in series.metrics])
            verdict = _verdict(gathered, actual, out, buckets, terms, scorer, config)
            used = ModelUsed(meta.name, meta.version, "autoencoder", terms.k or line)
            return Judged(verdict, actual.values, buckets, used)
        except ModelError as error:
            reason = f"the model {meta.name!r} cannot answer this: {error}"
    shallow = _Baseline(terms, config)
    actual = _own_series(gathered, own, terms.metric, reason)
    verdict = _verdict(gathered, actual, out, buckets, terms, shallow, config)
    line = baseline.line(terms.k, terms.mode, config.shallow.sensitivity)
    why = "; ".join(part for part in (reason, shallow.reason) if part)
    return Judged(
        verdict, actual.values, buckets, ModelUsed(None, None, "baseline", line, why or None, reason is not None)
    )


def rows_of(gathered: Gathered, judged: Judged, metric: str) -> Rows:
    """Put the verdict on the answered rows, in their order."""
    parsed, verdict, buckets = gathered.parsed, judged.verdict, judged.buckets
    all_rows = len(gathered.rows) == len(parsed.timestamps)
    at = parsed.row_position if all_rows else parsed.row_position[gathered.rows]
    flag = verdict.flag[at]
    names = verdict.metrics
    return Rows(
        timestamps=list(parsed.timestamps) if all_rows else [parsed.timestamps[row] for row in gathered.rows],
        actual=judged.actual[at, verdict.metric[at]],
        forecast=verdict.forecast[at],
        lower=verdict.lower[at],
        upper=verdict.upper[at],
        score=verdict.score[at],
        flag=flag,
        carried=verdict.carried[at],
        direction=verdict.direction[at],
        partial=buckets.partial[at],
        unfinished=buckets.unfinished[at],
        metrics={row: verdict.deviating[at[row]] for row in np.flatnonzero(flag).tolist()},
        metric=[names[column] for column in verdict.metric[at].tolist()] if metric == ANY else None,
    )


def _own_series(gathered: Gathered, own: tuple[str, ...], metric: str, reason: Optional[str]) -> Series:
    """Return the caller's metrics; one that only a model knows is worked out where the rows allow it."""
    if metric == ANY or metric in own:
        return _select(gathered.parsed.series, own)
    series = with_derived(gathered.parsed.series, gathered.parsed.seconds, [metric])
    if metric not in series.metrics:
        why = f"; {reason}" if reason else ""
        raise Unservable(f"the metric {metric!r} is not in the rows{why}")
    return _select(series, [*own, metric])


class _ModelScorer:
    def __init__(self, model: Any, terms: Terms, config: Config) -> None:
        self._model, self._terms, self._budget = model, terms, config.detection.alarms_per_day

    def score(self, series: Series, empty: Bools, first: int) -> Scores:
        silent = empty & self.rarely_empty(series)

        def rows_from(start: int) -> Scores:
            return self._rows_from(series, silent, start)

        if self._terms.metric == ANY:
            return rows_from(0)  # the witness looks at every metric that is furthest out anywhere
        column = self._model.meta.metrics.index(self._terms.metric)
        return score_asked(rows_from, column, empty, first)

    def _rows_from(self, series: Series, silent: Bools, start: int) -> Scores:
        """Scores of the rows from `start` on.

        Where silence is an exception it tells nothing of what is usual: a long outage must not become what is expected.
        Silent buckets are missing to the model, and scored by what it says when it sees them.
        """
        if not silent.any():
            return self._scores(series, start)
        without = replace(series, values=np.where(silent[:, None], np.nan, series.values))
        scores = self._scores(without, start)
        if not silent[start:].any():
            return scores
        seen, at = self._scores(series, start), silent[:, None]
        return scores._replace(score=np.where(at, seen.score, scores.score), own=np.where(at, seen.own, scores.own))

    def _scores(self, series: Series, start: int) -> Scores:
        scores: Scores = self._model.score(series, self._terms.k, self._terms.mode, self._budget, start)
        return scores

    def rarely_empty(self, series: Series) -> bool:
        return series.granularity in self._model.meta.rarely_empty


class _Baseline:
    reason: Optional[str] = None

    def __init__(self, terms: Terms, config: Config) -> None:
        self._terms, self._shallow = terms, config.shallow

    def score(self, series: Series, empty: Bools, first: int) -> Scores:
        scores, self.reason = baseline.score(
            series,
            self._terms.k,
            self._terms.mode,
            sensitivity=self._shallow.sensitivity,
            contamination=self._shallow.contamination,
        )
        return scores

    def rarely_empty(self, series: Series) -> bool:
        return False  # a query alone does not tell


def _verdict(
    gathered: Gathered, actual: Series, out: Bools, buckets: Buckets, terms: Terms, scorer: Any, config: Config
) -> Verdict:
    """Score and judge; then again with the values of unfinished buckets that are over their band already."""
    series = _without(actual, out)
    first, empty = gathered.first_asked, gathered.parsed.empty
    scores = scorer.score(series, empty, first)
    verdict = _judge(gathered, series, scores, out, terms, config, scorer.rarely_empty(series))
    may_be_over = buckets.unfinished & ~buckets.partial & ~buckets.unknown
    may_be_over[:first] = False
    if not may_be_over.any():
        return verdict
    upper = scores.upper.astype(np.float64)
    if terms.metric != ANY:
        upper[:, series.column(terms.metric)] = verdict.upper
    over = may_be_over[:, None] & (actual.values > upper)
    if not over.any():
        return verdict
    series = replace(series, values=np.where(over, actual.values, series.values))
    silent = scorer.rarely_empty(series)
    return _judge(gathered, series, scorer.score(series, empty, first), out & ~over.any(axis=1), terms, config, silent)


def _judge(
    gathered: Gathered, series: Series, scores: Scores, out: Bools, terms: Terms, config: Config, rarely_empty: bool
) -> Verdict:
    asked = np.zeros(len(series), bool)
    asked[gathered.first_asked :] = True
    return judge(
        series,
        scores,
        terms.metric,
        empty=gathered.parsed.empty & ~out,
        counting=_counting(gathered, series.metrics),
        witness=config.detection.witness,
        mode=terms.mode,
        nonnegative=[*TRAFFIC, *_counting(gathered, series.metrics)],
        judged=asked,
        rarely_empty=rarely_empty,
    )


def _counting(gathered: Gathered, metrics: Collection[str]) -> list[str]:
    parsed = gathered.parsed
    counting = {name for name, counts in zip(parsed.series.metrics, parsed.counts) if counts}
    derived = set(RATES).difference(parsed.series.metrics)
    return [name for name in metrics if name in counting or name in derived]


def _select(series: Series, metrics: Collection[str]) -> Series:
    metrics = tuple(metrics)
    if metrics == series.metrics:
        return series
    columns = [series.column(name) for name in metrics]
    return replace(series, values=series.values[:, columns], metrics=metrics)


def _without(series: Series, out: Bools) -> Series:
    if not out.any():
        return series
    return replace(series, values=np.where(out[:, None], np.nan, series.values))
