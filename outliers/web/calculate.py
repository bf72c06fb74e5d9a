"""The engine behind every route and the `detect` verb: one question in, one answer out; knows nothing of HTTP."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Optional

import numpy as np
from numpy.typing import NDArray

from outliers.config import Config
from outliers.druid.client import Druid
from outliers.druid.query import bound, canonical_text, checked, data_sources_of, names_of, with_model_needs
from outliers.druid.response import LARGEST
from outliers.errors import Unservable
from outliers.infer import baseline
from outliers.infer.cache import Models
from outliers.infer.judge import ANY
from outliers.series import Granularity, parse_intervals
from outliers.web.answer import Answer, ModelUsed, Rows
from outliers.web.answers import AnswerCache
from outliers.web.choice import Choice, choose, unsuited
from outliers.web.fetch import Fetcher
from outliers.web.gather import Gathered, Source, ask, given
from outliers.web.history import History
from outliers.web.judging import Terms, buckets_of, judge_rows, rows_of
from outliers.web.payload import Request

MONITORS = "monitors"
NAMES_OF_A_CALL = frozenset({"queryId", "subQueryId", "sqlQueryId", "timeout", "priority", "lane"})


class Told:
    """What is told of answering; the default does not listen."""

    def answered(self, answer: Answer, points: int, seconds: float) -> None: ...

    def cache(self, outcome: str) -> None: ...

    def gathered(self, gathered: Gathered, seconds: float) -> None: ...

    def druid_call(self, kind: str, outcome: str, seconds: float) -> None: ...

    def druid_shared(self) -> None: ...


@dataclass(frozen=True)
class Context:
    """What answering needs, built once a process."""

    config: Config
    models: Models
    source: Source
    cache: AnswerCache
    told: Told
    clock: Callable[[], float] = time.time


class _Settings(NamedTuple):
    """What was asked for, defaults filled in."""

    metric: Optional[str]
    k: Optional[float]
    mode: str
    lead_in: str


def open_context(
    config: Config, models: Models, told: Optional[Told] = None, clock: Callable[[], float] = time.time
) -> Context:
    """Build what answering needs; nothing is asked of Druid yet."""
    told = told or Told()
    druid = Druid(config.druid, told.druid_call)
    source = Source(config, Fetcher(druid, config, told.druid_shared), History(config.druid.history_s), clock)
    return Context(config, models, source, AnswerCache(config.druid.cache_s), told, clock)


def calculate(
    request: Request, context: Context, must_exist: bool = True, deadline_s: Optional[float] = None
) -> Answer:
    """Answer one question.

    must_exist: a named model that is not served is an error. deadline_s: monotonic time by which to answer.
    Raises InvalidRequest, Unservable, DruidError or Overloaded, see `outliers.errors`.
    """
    config = context.config
    settings = _settings(request, config)
    if request.data is not None:
        of_data = None if request.query is None else _described(request.query)
        choice = choose(request.model, of_data, context.models, must_exist)
        gathered = given(request.data, of_data, request.judge_from, context.source)
        choice = _suited(choice, of_data, gathered.parsed.series.granularity, settings)
        return _answer(gathered, of_data, choice, settings, request, context)
    query = checked(request.query)
    _bounded(query, config)
    choice = choose(request.model, query, context.models, must_exist)
    choice = _suited(choice, query, Granularity.parse(query["granularity"]).text, settings)
    _check_metric(settings.metric, names_of(query), choice)
    asked = query
    if choice.model is not None:
        asked = with_model_needs(query, choice.model.meta.aggregations, choice.model.meta.post_aggregations)
    clock_known = context.source.fetcher.remembers_newest(asked)  # else it is after the call to Druid
    key = _cache_key(asked, choice, settings, context) if clock_known else None
    # A kept answer says nothing of this request's own fields.
    answer = context.cache.get(key) if key is not None and not request.ignored else None
    if answer is not None:
        context.told.cache("hit")
        return answer
    deadline_s = deadline_s or time.monotonic() + config.server.request_timeout_s
    began_s = time.monotonic()
    gathered = ask(asked, settings.lead_in, deadline_s, context.source)
    context.told.gathered(gathered, time.monotonic() - began_s)
    answer = _answer(gathered, query, choice, settings, request, context)
    if not clock_known and context.source.fetcher.remembers_newest(asked):
        key = _cache_key(asked, choice, settings, context)
    if key is not None:
        context.told.cache("miss")
        if not answer.warnings:
            context.cache.put(key, answer)
    return answer


def _settings(request: Request, config: Config) -> _Settings:
    return _Settings(
        metric=request.metric,
        k=request.k,
        mode=request.mode or config.detection.mode,
        lead_in=request.lead_in or config.detection.lead_in,
    )


def _described(query: Mapping[str, Any]) -> dict[str, Any]:
    """Check a query that only describes data: what it leaves out is not needed, as nothing is asked."""
    checked({"dataSource": "data", "intervals": "2000/2000", **query, "queryType": "timeseries"})
    return dict(query)


def _bounded(query: Mapping[str, Any], config: Config) -> None:
    """Refuse what is not to be asked of Druid; what it would cost is known before it is asked."""
    allowed = config.druid.data_sources
    for source in data_sources_of(query):
        if allowed and source not in allowed:
            raise Unservable(f"The data source {source!r} may not be asked here.")
    buckets, most = bound(query), config.limits.points
    if buckets > most:
        raise Unservable(f"The query has {buckets} buckets (interval ÷ granularity); at most {most} are served.")
    names = names_of(query)
    if len(names) > config.limits.metrics:
        raise Unservable(f"The query has {len(names)} metrics; at most {config.limits.metrics} are served.")


def _suited(choice: Choice, query: Optional[Mapping[str, Any]], granularity: str, settings: _Settings) -> Choice:
    """Give up a model that cannot judge these rows, saying why."""
    if choice.model is None:
        return choice
    reason = unsuited(choice.model, query, granularity)
    metric, meta = settings.metric, choice.model.meta
    if reason is None and metric not in (None, ANY, *meta.metrics):
        reason = f"the model {meta.name!r} does not know {metric!r}"
    return choice if reason is None else Choice(None, reason)


def _check_metric(metric: Optional[str], names: Sequence[str], choice: Choice) -> None:
    known = choice.model.meta.metrics if choice.model is not None else ()
    if metric is not None and metric != ANY and metric not in names and metric not in known:
        listed = ", ".join(names) or "none"
        raise Unservable(f"The metric {metric!r} is neither in the query nor in its rows (they have: {listed}).")


def _cache_key(query: Mapping[str, Any], choice: Choice, settings: _Settings, context: Context) -> Optional[Hashable]:
    """What an answer depends on; None where it must not be kept: the interval is not closed."""
    if not context.cache.on:
        return None
    intervals = parse_intervals(query["intervals"])
    newest_s = context.source.fetcher.newest_s(query)
    if not intervals or newest_s is None:
        return None
    complete_s = min(newest_s, context.clock()) - context.config.druid.settle_s
    if intervals[-1].end_ms / 1000 > complete_s:
        return None
    meta = choice.model.meta if choice.model is not None else None
    return (
        canonical_text({k: v for k, v in query.items() if k != "context"}),
        canonical_text({k: v for k, v in (query.get("context") or {}).items() if k not in NAMES_OF_A_CALL}),
        (meta.name, meta.version) if meta is not None else None,
        choice.reason,
        settings,
    )


def _answer(
    gathered: Gathered,
    query: Optional[Mapping[str, Any]],
    choice: Choice,
    settings: _Settings,
    request: Request,
    context: Context,
) -> Answer:
    began_s = time.monotonic()
    parsed, warnings = gathered.parsed, list(gathered.warnings)
    warnings += [f"The field {name!r} is not known and was ignored." for name in request.ignored]
    own = _own_metrics(query, request, parsed.series.metrics)
    if len(own) > context.config.limits.metrics:
        raise Unservable(f"The rows have {len(own)} metrics; at most {context.config.limits.metrics} are served.")
    named = () if query is None else names_of(query)
    if len(gathered.rows):
        _check_metric(settings.metric, [*own, *named], choice)
    metric = settings.metric or _default_metric(own, choice, context.config)
    warnings += _unusable_warnings(gathered, metric)
    if _nothing_to_judge(gathered, metric, choice, warnings):
        rows, model = Rows.none(), _model_unused(choice, settings, parsed.series.granularity, context.config)
    else:
        assert metric is not None
        judged = judge_rows(gathered, own, Terms(metric, settings.k, settings.mode), choice, context.config)
        rows, model = rows_of(gathered, judged, metric), judged.model
        warnings += _missing_warnings(gathered, metric)
    answer = Answer(
        rows=rows,
        metric=metric,
        mode=settings.mode,
        granularity=parsed.series.granularity,
        model=model,
        lead_in=gathered.lead_in,
        warnings=tuple(dict.fromkeys(warnings)),
    )
    context.told.answered(answer, len(parsed.series), time.monotonic() - began_s)
    return answer


def _own_metrics(query: Optional[Mapping[str, Any]], request: Request, metrics: tuple[str, ...]) -> tuple[str, ...]:
    """Return the metrics that the rows carry for the caller, not for a model; in the query's order."""
    if query is None or request.data is not None:
        return metrics
    names = set(names_of(query))
    return tuple(name for name in metrics if name in names)


def _default_metric(own: Sequence[str], choice: Choice, config: Config) -> Optional[str]:
    metrics = own or (choice.model.meta.metrics if choice.model is not None else ())
    for name in (config.outliers.metric, MONITORS):
        if name in metrics:
            return name
    return metrics[0] if metrics else None


def _nothing_to_judge(gathered: Gathered, metric: Optional[str], choice: Choice, warnings: list[str]) -> bool:
    """Tell whether no row holds any value that is asked about, and say why."""
    series, unknown = gathered.parsed.series, buckets_of(gathered).unknown
    if gathered.times.first_known and gathered.times.first_s is None:
        source = gathered.times.empty_source
        warnings.append(
            "Nothing in Druid matches the query's filter."
            if source is None
            else f"Druid has no data of the data source {source!r}."
        )
        return True
    if not len(gathered.rows):
        warnings.append("There are no rows, so there is nothing to judge.")
        return True
    if metric is None:
        warnings.append("The query has no aggregations, so there is nothing to judge.")
        return True
    derived = choice.model is not None and metric in choice.model.meta.metrics and metric not in series.metrics
    if metric == ANY or derived:
        values = series.values
    else:
        values = (
            series.values[:, [series.column(metric)]] if metric in series.metrics else np.full((len(series), 1), np.nan)
        )
    if (np.isfinite(values).any(axis=1) & ~unknown).any():
        return False
    warnings.append(f"All values of {metric!r} are missing." if metric != ANY else "All values are missing.")
    return True


def _model_unused(choice: Choice, settings: _Settings, granularity: str, config: Config) -> ModelUsed:
    if choice.model is None:
        line = baseline.line(settings.k, settings.mode, config.shallow.sensitivity)
        return ModelUsed(None, None, "baseline", line, choice.reason, choice.reason is not None)
    meta = choice.model.meta
    line = settings.k or choice.model.threshold(granularity, settings.mode, config.detection.alarms_per_day)
    return ModelUsed(meta.name, meta.version, "autoencoder", line)


def _unusable_warnings(gathered: Gathered, metric: Optional[str]) -> list[str]:
    count, of = _rows_counted(gathered, metric, gathered.parsed.unusable)
    if not count:
        return []
    what = f"1 value{of} is" if count == 1 else f"{count} values{of} are"
    return [f"{what} no number, or beyond {LARGEST:.1e}: missing, not judged."]


def _missing_warnings(gathered: Gathered, metric: str) -> list[str]:
    count, of = _rows_counted(gathered, metric, gathered.parsed.missing)
    if not count:
        return []
    return [f"{count} {'row is' if count == 1 else 'rows are'} without a value{of}: missing, not judged."]


def _rows_counted(gathered: Gathered, metric: Optional[str], counts: NDArray[np.int64]) -> tuple[int, str]:
    """Of counts by metric [M] the one that is asked about, and what it is of, in words."""
    metrics = gathered.parsed.series.metrics
    if metric == ANY:
        return int(counts.max(initial=0)), ""
    return (int(counts[metrics.index(metric)]), f" of {metric!r}") if metric in metrics else (0, "")
