"""A name's past from Druid, as one series a granularity; it must not know how a model is fitted or published.

One query a granularity, paged by interval so that no answer grows past a bound; where every metric is a sum, the
coarser granularities are summed here instead of asked.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from outliers.config import Training
from outliers.druid.query import describe, training_query
from outliers.druid.response import parse_rows
from outliers.druid.traffic import FLOW_AGGREGATIONS, FLOW_SOURCE, TRAFFIC, with_derived
from outliers.errors import TooLittleData
from outliers.series import Granularity, Series

if TYPE_CHECKING:
    from outliers.druid.client import Druid

DAY_S = 86400
FINE_S, COARSE_S = 300, 3600  # below: [Training] days_fine; from here up: twice [Training] days
PAGE_BUCKETS = 10_000  # some 3 MB of JSON
ADDITIVE = frozenset({"count", "longSum", "doubleSum", "floatSum"})

Span = tuple[int, int]  # [start_s, end_s), Unix seconds


@dataclass(frozen=True)
class Subject:
    """What a model is of: rows of a data source that a filter selects (None = all), and the metrics it learns.

    aggregations are what Druid is asked; metrics are those and what follows from them (druid/traffic.py).
    """

    name: str
    filter: Mapping[str, Any] | None
    data_source: str = FLOW_SOURCE
    aggregations: tuple[Mapping[str, Any], ...] = FLOW_AGGREGATIONS
    metrics: tuple[str, ...] = TRAFFIC


@dataclass(frozen=True)
class Past:
    """What Druid holds of a subject.

    series: granularity -> Series over its own span, NaN = missing. uncovered: spans for which Druid says that it has
    no segment loaded, merged. start_s, end_s: the widest span. seconds: spent on Druid and on reading its answers.
    """

    series: dict[str, Series]
    uncovered: tuple[Span, ...]
    start_s: int
    end_s: int
    seconds: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class _Plan:
    """One granularity's grid, and the granularity from which it is summed (None = asked)."""

    granularity: Granularity
    start_s: int
    end_s: int
    summed_from: str | None


def fetch(
    druid: Druid,
    subject: Subject,
    training: Training,
    *,
    newest_s: int,
    first_event_s: int,
    settle_s: float,
    empty: str = "auto",
    tell: Callable[[Mapping[str, Any]], None] = lambda facts: None,
) -> Past:
    """Return the past of `subject` at every configured granularity that has at least one whole bucket.

    newest_s: the newest event; what is younger than settle_s before it is left out. first_event_s: of the subject:
    what is before it never happened, and is neither zero nor learned. empty: [Detection] empty.
    Raises TooLittleData where there is no whole bucket at all, DruidError and DruidRefused as the client does.
    """
    plans = plan(training, subject.aggregations, first_event_s, int(newest_s - settle_s))
    if not plans:
        raise TooLittleData("there is no whole bucket between the first event and the newest one")
    base: dict[str, Series] = {}
    holes: list[Span] = []
    druid_s = parse_s = 0.0
    for text, step in plans.items():
        if step.summed_from:
            base[text] = summed(base[step.summed_from], step.granularity, step.start_s, step.end_s)
            continue
        tell({"step": "fetch", "granularity": text})
        parts = []
        for start_s, end_s in pages(step):
            began_s = time.perf_counter()
            query = training_query(subject.data_source, subject.filter, subject.aggregations, text, start_s, end_s)
            answer = druid.query(query)
            answered_s = time.perf_counter()
            holes.extend(_spans(answer.uncovered, step.start_s, step.end_s))
            parts.append(parse_rows(answer.rows, query, empty=empty).series)
            druid_s += answered_s - began_s
            parse_s += time.perf_counter() - answered_s
        names = [str(a["name"]) for a in subject.aggregations]
        base[text] = on_grid(parts, names, step.granularity, step.start_s, step.end_s)
    uncovered = merged(holes)
    series = {text: _finished(base[text], step.granularity, uncovered, subject.metrics) for text, step in plans.items()}
    starts, ends = [p.start_s for p in plans.values()], [p.end_s for p in plans.values()]
    return Past(series, uncovered, min(starts), max(ends), {"druid": druid_s, "parse": parse_s})


def plan(
    training: Training, aggregations: Iterable[Mapping[str, Any]], first_event_s: int, end_s: int
) -> dict[str, _Plan]:
    """Return what is asked and what is summed, by granularity from fine to coarse."""
    additive = all(a["type"] in ADDITIVE for a in aggregations)
    parsed = {text: Granularity.parse({"type": "period", "period": text}) for text in training.granularities}
    plans: dict[str, _Plan] = {}
    for granularity in sorted(parsed.values(), key=lambda g: g.step_s):
        start_s = max(end_s - past_s(training, granularity.step_s), first_event_s)
        first_s = int(granularity.floor(start_s - 1)[0]) if start_s > 0 else 0
        first_s = int(granularity.ends(np.array([first_s]))[0])  # the first whole bucket
        last_s = int(granularity.floor(end_s)[0])
        if last_s <= first_s:
            continue
        finer = None
        if additive:
            finer = next((t for t, p in reversed(plans.items()) if _holds(p, granularity, first_s, last_s)), None)
        plans[granularity.text] = _Plan(granularity, first_s, last_s, finer)
    return plans


def past_s(training: Training, step_s: int) -> int:
    """Seconds of past that are learned from at a granularity."""
    if step_s < FINE_S:
        return training.days_fine * DAY_S
    return training.days * DAY_S * (2 if step_s >= COARSE_S else 1)


def _holds(finer: _Plan, granularity: Granularity, start_s: int, end_s: int) -> bool:
    """Whether sums over `finer` are the buckets of `granularity`: asked itself, a divisor, and as long a past."""
    step_s = finer.granularity.step_s
    calendar = granularity.step_s > DAY_S or granularity.zone != "UTC"
    return (
        finer.summed_from is None
        and not calendar
        and granularity.step_s % step_s == 0
        and finer.start_s <= start_s
        and finer.end_s >= end_s
    )


def pages(step: _Plan, most: int = PAGE_BUCKETS) -> list[Span]:
    """Cut a span at bucket starts into pieces of at most `most` buckets."""
    starts_s = step.granularity.starts(step.start_s, step.end_s)
    cuts = [*starts_s[::most].tolist(), step.end_s]
    return list(zip(cuts, cuts[1:]))


def on_grid(
    parts: Sequence[Series], metrics: Sequence[str], granularity: Granularity, start_s: int, end_s: int
) -> Series:
    """Put pieces on the whole grid of [start_s, end_s); what no piece has is missing."""
    starts_s = granularity.starts(start_s, end_s)
    values = np.full((len(starts_s), len(metrics)), np.nan)
    for part in parts:
        if not len(part):
            continue
        at = granularity.positions(part.timestamps, starts_s)
        inside = (at >= 0) & (at < len(starts_s))
        for column, metric in enumerate(metrics):
            if metric in part.metrics:
                values[at[inside], column] = part.values[inside, part.column(metric)]
    return Series(starts_s, values, tuple(metrics), granularity.text, granularity.step_s)


def summed(finer: Series, granularity: Granularity, start_s: int, end_s: int) -> Series:
    """Sum a finer series into whole buckets of [start_s, end_s); a bucket of which a part is missing is missing."""
    starts_s = granularity.starts(start_s, end_s)
    per = granularity.step_s // finer.step_s
    first = int((start_s - finer.timestamps[0]) // finer.step_s)
    block = finer.values[first : first + per * len(starts_s)]
    values = block.reshape(len(starts_s), per, -1).sum(axis=1)  # NaN stays NaN
    return Series(starts_s, values, finer.metrics, granularity.text, granularity.step_s)


def _finished(series: Series, granularity: Granularity, uncovered: Iterable[Span], metrics: tuple[str, ...]) -> Series:
    """Make buckets that uncovered time touches missing, and append the metrics that follow from the others."""
    ends_s = granularity.ends(series.timestamps)
    touched = np.zeros(len(series), bool)
    for start_s, end_s in uncovered:
        touched |= (series.timestamps < end_s) & (ends_s > start_s)
    values = np.where(touched[:, None], np.nan, series.values)
    series = Series(series.timestamps, values, series.metrics, series.granularity, series.step_s)
    full = with_derived(series, (ends_s - series.timestamps).astype(np.float64), metrics)
    columns = [full.column(metric) for metric in metrics]
    return Series(full.timestamps, full.values[:, columns], metrics, full.granularity, full.step_s)


def _spans(uncovered: Iterable[Span], start_s: int, end_s: int) -> list[Span]:
    """Cut uncovered time to the asked span."""
    spans = [(max(a, start_s), min(b, end_s)) for a, b in uncovered]
    return [span for span in spans if span[0] < span[1]]


def merged(spans: Iterable[Span]) -> tuple[Span, ...]:
    """Return the union of spans, sorted."""
    result: list[Span] = []
    for start_s, end_s in sorted(spans):
        if result and start_s <= result[-1][1]:
            result[-1] = (result[-1][0], max(result[-1][1], end_s))
        else:
            result.append((start_s, end_s))
    return tuple(result)


def new_holes(past: Past, known: Iterable[Sequence[int]]) -> tuple[Span, ...]:
    """Return the uncovered spans that are a surprise: not at the start (retention), not known from the last job."""
    before = merged((int(start_s), int(end_s)) for start_s, end_s in known)
    return tuple(
        (start_s, end_s)
        for start_s, end_s in past.uncovered
        if start_s > past.start_s and not any(a <= start_s and end_s <= b for a, b in before)
    )


def said(spans: Iterable[Span]) -> str:
    """Return spans for a sentence, at most three of them."""
    spans = list(spans)
    text = ", ".join(describe(start_s, end_s) for start_s, end_s in spans[:3])
    return f"{text} and {len(spans) - 3} more" if len(spans) > 3 else text


def points(series: Mapping[str, Series]) -> dict[str, int]:
    """Return how many buckets with at least one value each granularity has."""
    return {text: int(np.isfinite(s.values).any(axis=1).sum()) for text, s in series.items()}
