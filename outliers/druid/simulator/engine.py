"""Answers native queries over tables as a Druid 33 does: timeseries, topN, timeBoundary; knows nothing of HTTP.

Which rows there are: a bucket is answered when a segment's rows reach over a part of it that was asked; where no
segment is, no row is. Held to a real Druid's answers in tests/druid and tests/real. Blocks are folded one by one:
months are answered without being held.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Optional, Union

import numpy as np

from outliers.druid.simulator import refusal
from outliers.druid.simulator.aggregate import (
    Count,
    Fold,
    Selected,
    fold,
    is_sketch,
    output_name,
    post_aggregated,
    written,
)
from outliers.druid.simulator.columns import Columns
from outliers.druid.simulator.filters import matching, sensors_of
from outliers.druid.simulator.reading import Asked, Grid, Milliseconds, limit_of, read, threshold_of
from outliers.druid.simulator.table import DAY_MS, Table
from outliers.druid.simulator.topn import rank_of, ranked
from outliers.series import Interval, distinct
from outliers.times import instant_text, offsets_s

Rows = list[dict[str, Any]]
_COMPOSED = ("union", "query", "join", "lookup", "inline", "unnest", "filter", "globalTable")


class Answer(NamedTuple):
    """rows: what Druid would write; context: what it says of the answer in its header."""

    rows: Rows
    context: dict[str, Any]


class Engine:
    """A broker's mind over named tables."""

    def __init__(self, tables: Mapping[str, Table]) -> None:
        self._tables = tables

    def answer(self, query: Any) -> Answer:
        """Rows of a query, or the Refusal that Druid would answer."""
        if not isinstance(query, Mapping):
            if query is None:
                raise refusal.nothing_at_all()
            raise refusal.unknown_type() if isinstance(query, str) else refusal.wrong_shape()
        kinds: dict[Any, Callable[[Mapping[str, Any], Asked], Rows]] = {
            "timeseries": _timeseries,
            "topN": _top_n,
            "timeBoundary": _time_boundary,
        }
        kind = query.get("queryType")
        if not isinstance(kind, str) or kind not in kinds:
            raise refusal.unknown_type()
        asked = read(query, self._tables_of(query.get("dataSource")))
        rows = kinds[kind](query, asked)
        asked.keep_time()
        context: dict[str, Any] = {}
        limit = asked.uncovered_limit()
        if limit and kind != "timeBoundary":
            uncovered = _uncovered(asked)
            context["uncoveredIntervals"] = [str(interval) for interval in uncovered[:limit]]
            context["uncoveredIntervalsOverflowed"] = len(uncovered) > limit
        return Answer(rows, context)

    def _tables_of(self, source: Any) -> Sequence[Table]:
        if isinstance(source, Mapping):
            kind = source.get("type")
            if kind == "union" and isinstance(source.get("dataSources"), list):
                return [table for part in source["dataSources"] for table in self._tables_of(part)]
            if kind in _COMPOSED:
                raise refusal.unsupported(f"a data source of type {kind}")
            source = source.get("name")  # a type that Druid does not know is a table
        if source is None:
            raise refusal.bad_value()
        if not isinstance(source, str):
            raise refusal.wrong_shape()
        table = self._tables.get(source)
        return [] if table is None else [table]


def _timeseries(query: Mapping[str, Any], asked: Asked) -> Rows:
    limit = limit_of(query)
    starts = _starts(asked)
    if not len(starts) and asked.grid == Grid() and not asked.is_set("skipEmptyBuckets"):
        starts = _start_of_nothing(asked)
    filled, table = Count(len(starts)), _Table(query, len(starts))
    for part in _selected(asked, starts):
        filled.add(part)
        table.add(part)
    order: Sequence[int] = range(len(starts))
    if asked.is_set("skipEmptyBuckets"):
        order = np.flatnonzero(filled.total).tolist()
    if asked.descending:
        order = order[::-1]
    order = order[:limit]
    stamps, rows = _stamps(starts, asked.grid.zone), table.rows()
    result: Rows = [{"timestamp": stamps[i], "result": rows[i]} for i in order]
    if asked.is_set("grandTotal"):
        result.append({"timestamp": None, "result": _grand_total(query, asked, starts, order)})
    return result


def _grand_total(query: Mapping[str, Any], asked: Asked, starts: Milliseconds, order: Sequence[int]) -> dict[str, Any]:
    """One row over the buckets that are answered; over none even a count is null, only a distinct count is 0."""
    if not order:
        row = {output_name(each): 0.0 if is_sketch(each) else None for each in query.get("aggregations") or ()}
        for post in query.get("postAggregations") or ():
            row[post["name"]] = written(post_aggregated(post, row))
        return row
    kept, table = np.zeros(len(starts), bool), _Table(query, 1)
    kept[list(order)] = True
    for part in _selected(asked, starts):
        mask = kept[part.bucket] if part.mask is None else kept[part.bucket] & part.mask
        table.add(Selected(part.columns, np.zeros_like(part.bucket), mask))
    return table.rows()[0]


def _top_n(query: Mapping[str, Any], asked: Asked) -> Rows:
    dimension, name = _dimension(query.get("dimension"))
    threshold = threshold_of(query)
    items = [*(query.get("aggregations") or ()), *(query.get("postAggregations") or ())]
    rank = rank_of(query.get("metric"), {output_name(each) for each in items})
    starts = _starts(asked)
    seen = {value for part in _selected(asked, starts) for value in part.columns.texts(dimension).values}
    values = sorted(seen, key=lambda value: (value is not None, value or ""))
    position = {value: i for i, value in enumerate(values)}
    cells = len(starts) * len(values)
    filled, table = Count(cells), _Table(query, cells)
    for part in _selected(asked, starts):
        texts = part.columns.texts(dimension)
        at = np.array([position[value] for value in texts.values], np.int64)[texts.codes]
        part = part._replace(bucket=part.bucket * len(values) + at)
        filled.add(part)
        table.add(part)
    rows, counts = table.rows(), filled.total.reshape(len(starts), len(values))
    result = []
    for i, stamp in enumerate(_top_n_stamps(starts, asked)):
        entries = [{**rows[i * len(values) + j], name: values[j]} for j in np.flatnonzero(counts[i]).tolist()]
        if threshold < 0:
            raise refusal.failed("java.lang.IllegalArgumentException", "limit is negative")
        result.append({"timestamp": stamp, "result": ranked(entries, name, rank)[:threshold]})
    return result


def _time_boundary(query: Mapping[str, Any], asked: Asked) -> Rows:
    bound = str(query.get("bound")).lower()
    wanted = [which for which in ("maxTime", "minTime") if bound == which.lower()] or ["maxTime", "minTime"]
    found: dict[str, int] = {}
    for which in wanted:
        times = [_edge(table, asked, which == "maxTime") for table in asked.tables]
        known = [at_ms for at_ms in times if at_ms is not None]
        if known:
            found[which] = max(known) if which == "maxTime" else min(known)
    if not found:
        return []
    texts = {which: instant_text(at_ms) for which, at_ms in found.items()}
    return [{"timestamp": texts[wanted[-1]], "result": texts}]


def _dimension(spec: Any) -> tuple[str, str]:
    """(dimension, output name)."""
    if isinstance(spec, str):
        return spec, spec
    if not isinstance(spec, Mapping) or not isinstance(spec.get("dimension"), str):
        raise refusal.bad_value()
    if spec.get("type", "default") != "default":
        raise refusal.unsupported(f"a dimension of type {spec.get('type')}")
    return spec["dimension"], str(spec.get("outputName") or spec["dimension"])


class _Table:
    """All aggregations of a query, folded together."""

    def __init__(self, query: Mapping[str, Any], buckets: int) -> None:
        self._aggregations = query.get("aggregations") or ()
        self._posts = query.get("postAggregations") or ()
        self._buckets = buckets
        self._folds: list[Fold] = [fold(item, buckets) for item in self._aggregations]

    def add(self, part: Selected) -> None:
        for each in self._folds:
            each.add(part)

    def rows(self) -> Rows:
        names = [output_name(item) for item in self._aggregations]
        columns = [each.values() for each in self._folds]
        rows = [dict(zip(names, cells)) for cells in zip(*columns)] if columns else [{} for _ in range(self._buckets)]
        for row in rows if self._posts else ():
            for post in self._posts:
                row[post["name"]] = written(post_aggregated(post, row))
        return rows


def _starts(asked: Asked) -> Milliseconds:
    """Starts of the buckets that are answered; `all` is stamped with the first (descending: last) answered time."""
    starts = _reached(asked)
    if asked.grid == Grid() and starts:
        return (max if asked.descending else min)(starts)
    return distinct(np.concatenate(starts)) if starts else np.empty(0, np.int64)


def _reached(asked: Asked) -> list[Milliseconds]:
    """Starts of the buckets that each segment answers for, in each interval.

    That is the time from its first row to the end of its last row's bucket (Druid's CursorGranularizer).
    """
    starts: list[Milliseconds] = []
    stamped_by_match = asked.grid == Grid() and asked.is_set("skipEmptyBuckets")
    for start_ms, end_ms in asked.intervals:
        for table in asked.tables:
            for segment in table.segments(start_ms, end_ms):
                low = max(start_ms, segment.start_ms, segment.first_ms)
                high = min(end_ms, segment.end_ms, asked.grid.bucket_end(segment.last_ms))
                if low < high and not (stamped_by_match and not _any(asked, table, low, high)):
                    starts.append(asked.grid.starts(low, high))
    return starts


def _start_of_nothing(asked: Asked) -> Milliseconds:
    """`all` over no row is still a bucket: it starts with the asked part of a segment, else with the interval."""
    inside = [
        max(start_ms, segment.start_ms)
        for start_ms, end_ms in asked.intervals
        for table in asked.tables
        for segment in table.segments(start_ms, end_ms)
    ]
    choose = max if asked.descending else min
    given = [each.start_ms for each in asked.intervals[:1]] or [0]
    return np.array([choose(inside)] if inside else given, np.int64)


def _any(asked: Asked, table: Table, start_ms: int, end_ms: int) -> bool:
    """Whether the filter selects a row of a table in [start_ms, end_ms)."""
    blocks = table.blocks(start_ms, end_ms, sensors_of(asked.filter))
    masks = ((block, matching(asked.filter, Columns(block, asked.virtual))) for block in blocks)
    return any(len(block) if mask is None else mask.any() for block, mask in masks)


def _selected(asked: Asked, starts: Milliseconds) -> Iterator[Selected]:
    """The asked rows, block by block, each with its bucket."""
    sensors = sensors_of(asked.filter)
    for start_ms, end_ms in asked.intervals:
        for table in asked.tables:
            for block in table.blocks(start_ms, end_ms, sensors):
                if not len(block):
                    continue
                columns = Columns(block, asked.virtual)
                if asked.grid == Grid():
                    bucket = np.zeros(len(block), np.int64)
                else:
                    bucket = np.searchsorted(starts, block.time_ms, side="right") - 1
                yield Selected(columns, bucket, matching(asked.filter, columns))
                asked.keep_time()


def _stamps(starts: Milliseconds, zone: str) -> list[str]:
    if zone == "UTC":
        return [f"{text}Z" for text in np.datetime_as_string(starts.astype("M8[ms]")).tolist()]
    offsets = offsets_s(zone, starts // 1000).tolist()
    return [instant_text(at_ms, offset) for at_ms, offset in zip(starts.tolist(), offsets)]


def _top_n_stamps(starts: Milliseconds, asked: Asked) -> list[str]:
    """A bucket that is put together of several segments has the granularity's zone, one that comes from one has UTC."""
    bucket, segments = np.unique(np.concatenate([*_reached(asked), starts]), return_counts=True)
    together = set(bucket[segments > 2].tolist())
    both = zip(starts.tolist(), _stamps(starts, "UTC"), _stamps(starts, asked.grid.zone))
    return [local if at_ms in together else utc for at_ms, utc, local in both]


def _edge(table: Table, asked: Asked, last: bool) -> Optional[int]:
    """Time of the first or last row that the filter selects."""
    extent = table.extent()
    if extent is None:
        return None
    sensors = sensors_of(asked.filter)
    if asked.intervals:
        extent = max(extent[0], asked.intervals[0].start_ms), min(extent[1], asked.intervals[-1].end_ms)
    windows: Union[range, Sequence[int]] = range(extent[0], extent[1], DAY_MS)
    for start_ms in reversed(windows) if last else windows:
        found = []
        for block in table.blocks(start_ms, min(start_ms + DAY_MS, extent[1]), sensors):
            mask = matching(asked.filter, Columns(block, asked.virtual))
            times = block.time_ms if mask is None else block.time_ms[mask]
            if len(times):
                found.append(int(times[-1] if last else times[0]))
        if found:
            return max(found) if last else min(found)
        asked.keep_time()
    return None


def _uncovered(asked: Asked) -> list[Interval]:
    """Asked time that no segment covers."""
    result = []
    for start_ms, end_ms in asked.intervals:
        at = start_ms
        for table in asked.tables:
            for segment_start, segment_end, _, _ in table.segments(start_ms, end_ms):
                if segment_start > at:
                    result.append(Interval(at, segment_start))
                at = max(at, segment_end)
        if at < end_ms:
            result.append(Interval(at, end_ms))
    return result
