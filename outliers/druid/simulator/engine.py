"""Answers native queries over tables as a Druid 33 does: timeseries, topN, timeBoundary; knows nothing of HTTP.

Which rows there are: a bucket is answered when a segment covers a part of it that was asked, events or not; where no
segment is, no row is. Held to a real Druid's recorded answers in tests/druid.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Optional, Union

import numpy as np
from numpy.typing import NDArray

from outliers.druid.simulator import refusal
from outliers.druid.simulator.aggregate import (
    Selected,
    aggregated,
    check_aggregations,
    is_sketch,
    output_name,
    post_aggregated,
)
from outliers.druid.simulator.columns import Columns
from outliers.druid.simulator.filters import check, matching, sensors_of
from outliers.druid.simulator.table import Block, Table
from outliers.druid.simulator.topn import rank_of, ranked
from outliers.errors import Unservable
from outliers.series import Granularity, Interval, distinct, parse_intervals
from outliers.times import Period, instant_text, offsets_s, parse_instant_ms

MOST_BUCKETS = 3_000_000  # more end a historical node of half a gigabyte
Milliseconds = NDArray[np.int64]


class Answer(NamedTuple):
    """rows: what Druid would write; context: what it says of the answer in its header."""

    rows: list[dict[str, Any]]
    context: dict[str, Any]


class _Grid(NamedTuple):
    """Buckets in milliseconds. Exactly one of the fields is set; none of them: `all`."""

    step: Optional[tuple[int, int]] = None  # (length, anchor)
    calendar: Optional[Granularity] = None

    def starts(self, start_ms: int, end_ms: int) -> Milliseconds:
        if self.step is not None:
            step, anchor = self.step
            first = (start_ms - anchor) // step
            last = (end_ms - 1 - anchor) // step
            if last - first > MOST_BUCKETS:
                raise refusal.too_much("")
            return np.arange(first, last + 1, dtype=np.int64) * step + anchor
        if self.calendar is None:
            return np.array([start_ms], np.int64)
        if self.calendar.count([Interval(start_ms, end_ms)]) > MOST_BUCKETS:
            raise refusal.too_much("")
        return self.calendar.starts(start_ms // 1000, -(-end_ms // 1000)) * 1000

    def bucket_end(self, at_ms: int) -> int:
        """End of the bucket that holds an instant."""
        if self.step is not None:
            step, anchor = self.step
            return int((at_ms - anchor) // step + 1) * step + anchor
        if self.calendar is None:
            return at_ms + (1 << 60)
        return int(self.calendar.ends(self.calendar.floor(at_ms // 1000))[0]) * 1000

    @property
    def zone(self) -> str:
        return self.calendar.zone if self.calendar is not None else "UTC"


class _Query(NamedTuple):
    """The parts that all kinds of query share, read and checked."""

    table: Sequence[Table]
    intervals: Sequence[Interval]
    grid: _Grid
    filter: Any
    context: Mapping[str, Any]
    virtual: Sequence[Mapping[str, Any]]
    descending: bool
    deadline: float


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
        kinds: dict[Any, Callable[[Mapping[str, Any], _Query], list[dict[str, Any]]]] = {
            "timeseries": self._timeseries,
            "topN": self._top_n,
            "timeBoundary": self._time_boundary,
        }
        kind = query.get("queryType")
        if not isinstance(kind, str) or kind not in kinds:
            raise refusal.unknown_type()
        read = self._read(query, kind)
        rows = kinds[kind](query, read)
        _in_time(read)
        context: dict[str, Any] = {}
        limit = _whole(read.context.get("uncoveredIntervalsLimit"))
        if limit and kind != "timeBoundary":
            uncovered = _uncovered(read)
            context["uncoveredIntervals"] = [str(interval) for interval in uncovered[:limit]]
            context["uncoveredIntervalsOverflowed"] = len(uncovered) > limit
        return Answer(rows, context)

    def _read(self, query: Mapping[str, Any], kind: str) -> _Query:
        began = time.monotonic()
        tables = self._tables_of(query.get("dataSource"))
        check(query.get("filter"))
        check_aggregations(query.get("aggregations"), query.get("postAggregations"))
        boundary = kind == "timeBoundary"
        intervals = () if boundary and query.get("intervals") is None else _intervals(query.get("intervals"))
        grid = _Grid() if boundary else _grid(query.get("granularity"))
        context = query.get("context")
        if context is not None and not isinstance(context, Mapping):
            raise refusal.wrong_shape()
        context = context or {}
        timeout_ms = _timeout(context)
        deadline = began + timeout_ms / 1000 if timeout_ms else float("inf")
        virtual = query.get("virtualColumns") or ()
        descending = query.get("descending") in (True, "true")
        return _Query(tables, intervals, grid, query.get("filter"), context, virtual, descending, deadline)

    def _tables_of(self, source: Any) -> Sequence[Table]:
        if isinstance(source, Mapping):
            kind = source.get("type")
            if kind == "union" and isinstance(source.get("dataSources"), list):
                return [table for part in source["dataSources"] for table in self._tables_of(part)]
            if kind not in ("table", "union"):
                raise refusal.unknown_type()
            source = source.get("name")
        if not isinstance(source, str) or not source:
            raise refusal.bad_value()
        table = self._tables.get(source)
        return [] if table is None else [table]

    # timeseries

    def _timeseries(self, query: Mapping[str, Any], read: _Query) -> list[dict[str, Any]]:
        limit = _limit(query)
        starts, blocks = _buckets(read)
        if not len(starts) and read.grid == _Grid() and not _is_set(read.context, "skipEmptyBuckets"):
            # Nothing in one bucket is still a bucket, stamped with the start of the interval.
            starts = np.array([interval.start_ms for interval in read.intervals[:1]], np.int64)
        selected = _selected(read, starts, blocks)
        _in_time(read)
        aggregations = query.get("aggregations") or []
        posts = query.get("postAggregations") or []
        rows = _rows(aggregations, posts, selected, len(starts))
        stamps = _stamps(starts, read)
        order: Sequence[int] = range(len(starts))
        if _is_set(read.context, "skipEmptyBuckets"):
            filled = aggregated({"type": "count", "name": ""}, selected, len(starts))
            order = [i for i in order if filled[i]]
        if read.descending:
            order = order[::-1]
        order = order[:limit]
        result: list[dict[str, Any]] = [{"timestamp": stamps[i], "result": rows[i]} for i in order]
        if _is_set(read.context, "grandTotal"):
            whole = [_counted_once(part, order, len(starts)) for part in selected]
            total = _rows(aggregations, posts, whole, 1)[0] if order else _total_of_nothing(aggregations, posts)
            result.append({"timestamp": None, "result": total})
        return result

    # topN

    def _top_n(self, query: Mapping[str, Any], read: _Query) -> list[dict[str, Any]]:
        dimension, name = _dimension(query.get("dimension"))
        threshold = _whole(query.get("threshold"))
        if threshold is None or threshold <= 0:
            raise refusal.bad_value()
        aggregations = query.get("aggregations") or []
        posts = query.get("postAggregations") or []
        rank = rank_of(query.get("metric"), {output_name(each) for each in [*aggregations, *posts]})
        starts, blocks = _buckets(read)
        stamps = _stamps(starts, read)
        result = []
        for stamp, part in zip(stamps, _by_bucket(read, starts, blocks)):
            values = sorted(
                {v for s in part for v in s.columns.texts(dimension).values}, key=lambda v: (v is not None, v)
            )
            position = {value: i for i, value in enumerate(values)}
            grouped = [_grouped(s, dimension, position) for s in part]
            counts = aggregated({"type": "count", "name": ""}, grouped, len(values))
            rows = _rows(aggregations, posts, grouped, len(values))
            entries = [{**rows[i], name: values[i]} for i in range(len(values)) if counts[i]]
            result.append({"timestamp": stamp, "result": ranked(entries, name, rank)[:threshold]})
        return result

    # timeBoundary

    def _time_boundary(self, query: Mapping[str, Any], read: _Query) -> list[dict[str, Any]]:
        bound = query.get("bound")
        if bound is not None and str(bound).lower() not in ("mintime", "maxtime"):
            raise refusal.bad_value()
        wanted = (
            ["maxTime", "minTime"] if bound is None else ["maxTime" if str(bound).lower() == "maxtime" else "minTime"]
        )
        found: dict[str, int] = {}
        for which in wanted:
            times = [_edge(table, read, which == "maxTime") for table in read.table]
            known = [at_ms for at_ms in times if at_ms is not None]
            if known:
                found[which] = max(known) if which == "maxTime" else min(known)
        if not found:
            return []
        texts = {which: instant_text(at_ms) for which, at_ms in found.items()}
        return [{"timestamp": texts[wanted[-1]], "result": texts}]


def _intervals(value: Any) -> Sequence[Interval]:
    try:
        return parse_intervals(value)
    except Unservable as error:
        raise refusal.bad_value() from error


def _grid(value: Any) -> _Grid:
    if isinstance(value, Mapping):
        kind = str(value.get("type"))
        if kind not in ("all", "none", "period", "duration"):
            raise refusal.wrong_shape()
        if kind == "duration":
            return _duration(value)
        if kind == "period":
            if value.get("period") is None:
                raise refusal.bad_value()
            try:
                Period.parse(str(value.get("period")))
            except ValueError as error:
                raise refusal.bad_period() from error
    elif value is None:
        raise refusal.bad_value()
    elif not isinstance(value, str):
        raise refusal.wrong_shape()
    else:
        kind = value.lower()
    if kind in ("all", "none"):
        return _Grid(step=(1, 0)) if kind == "none" else _Grid()
    try:
        return _Grid(calendar=Granularity.parse(value))
    except Unservable as error:
        raise refusal.bad_value() from error


def _duration(value: Mapping[str, Any]) -> _Grid:
    length_ms = _whole(value.get("duration"))
    if length_ms is None or length_ms <= 0:
        raise refusal.bad_value()
    origin = value.get("origin")
    try:
        anchor_ms = 0 if origin is None else parse_instant_ms(str(origin))
    except ValueError as error:
        raise refusal.bad_value() from error
    return _Grid(step=(length_ms, anchor_ms % length_ms))


def _timeout(context: Mapping[str, Any]) -> int:
    """Milliseconds, 0 for none."""
    value = context.get("timeout", 300_000)
    timeout_ms = _whole(value)
    if timeout_ms is None:
        raise refusal.bad_context(f"Expected key [timeout] to be in long format, but got [{value}]")
    if timeout_ms < 0:
        raise refusal.bad_context(f"Timeout [timeout] must be a non negative value, but was {timeout_ms}")
    return timeout_ms


def _limit(query: Mapping[str, Any]) -> Optional[int]:
    value = query.get("limit")
    if value is None or value == 0:
        return None
    limit = _whole(value)
    if limit is None:
        raise refusal.bad_format()
    return limit


def _whole(value: Any) -> Optional[int]:
    if isinstance(value, bool) or not isinstance(value, (int, str, float)):
        return None
    try:
        return int(value)
    except ValueError:
        return None


def _dimension(spec: Any) -> tuple[str, str]:
    """(dimension, output name)."""
    if isinstance(spec, str):
        return spec, spec
    if not isinstance(spec, Mapping) or not isinstance(spec.get("dimension"), str):
        raise refusal.bad_value()
    if spec.get("type", "default") != "default":
        raise refusal.unsupported(f"a dimension of type {spec.get('type')}")
    return spec["dimension"], str(spec.get("outputName") or spec["dimension"])


def _in_time(read: _Query) -> None:
    if time.monotonic() > read.deadline:
        raise refusal.timed_out(str(read.context.get("queryId") or uuid.uuid4()))


def _buckets(read: _Query) -> tuple[Milliseconds, list[Block]]:
    """Starts of the buckets that are answered, and the blocks of rows, cut to the asked intervals.

    A segment answers for the time from its first row to the end of its last row's bucket (Druid's CursorGranularizer);
    `all` is stamped with the start of the first (descending: last) such time.
    """
    starts: list[Milliseconds] = []
    blocks: list[Block] = []
    sensors = sensors_of(read.filter)
    for start_ms, end_ms in read.intervals:
        for table in read.table:
            for segment in table.segments(start_ms, end_ms):
                low = max(start_ms, segment.start_ms, segment.first_ms)
                high = min(end_ms, segment.end_ms, read.grid.bucket_end(segment.last_ms))
                if low < high:
                    starts.append(read.grid.starts(low, high))
            blocks.extend(table.blocks(start_ms, end_ms, sensors))
    if read.grid == _Grid() and starts:
        return (max if read.descending else min)(starts), blocks
    return (distinct(np.concatenate(starts)) if starts else np.empty(0, np.int64)), blocks


def _is_set(context: Mapping[str, Any], key: str) -> bool:
    return context.get(key) in (True, "true")


def _selected(read: _Query, starts: Milliseconds, blocks: Sequence[Block]) -> list[Selected]:
    result = []
    for block in blocks:
        if not len(block):
            continue
        columns = Columns(block, read.virtual)
        if read.grid == _Grid():
            bucket = np.zeros(len(block), np.int64)
        else:
            bucket = np.searchsorted(starts, block.time_ms, side="right") - 1
        result.append(Selected(columns, bucket, matching(read.filter, columns)))
        _in_time(read)
    return result


def _by_bucket(read: _Query, starts: Milliseconds, blocks: Sequence[Block]) -> list[list[Selected]]:
    """The selected rows of each bucket apart."""
    selected = _selected(read, starts, blocks)
    result: list[list[Selected]] = []
    for i in range(len(starts)):
        parts = []
        for part in selected:
            inside = part.bucket == i
            if inside.any():
                parts.append(part._replace(mask=inside if part.mask is None else inside & part.mask))
        result.append(parts)
    return result


def _total_of_nothing(aggregations: Sequence[Mapping[str, Any]], posts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What `grandTotal` says where there is no row: even a count is null, only a distinct count is 0."""
    row = {output_name(each): 0.0 if is_sketch(each) else None for each in aggregations}
    for post in posts:
        row[post["name"]] = post_aggregated(post, row)
    return row


def _counted_once(part: Selected, order: Sequence[int], buckets: int) -> Selected:
    """The rows of the buckets that are answered, all in one."""
    kept = np.zeros(buckets, bool)
    kept[list(order)] = True
    mask = kept[part.bucket] if part.mask is None else kept[part.bucket] & part.mask
    return Selected(part.columns, np.zeros_like(part.bucket), mask)


def _grouped(part: Selected, dimension: str, position: Mapping[Optional[str], int]) -> Selected:
    """The same rows with a value of the dimension in the place of the bucket, sorted as aggregation wants them."""
    texts = part.columns.texts(dimension)
    bucket = np.array([position[value] for value in texts.values], np.int64)[texts.codes]
    return part._replace(bucket=bucket)


def _rows(
    aggregations: Sequence[Mapping[str, Any]],
    posts: Sequence[Mapping[str, Any]],
    selected: Sequence[Selected],
    buckets: int,
) -> list[dict[str, Any]]:
    names = [output_name(item) for item in aggregations]
    columns = [aggregated(item, selected, buckets) for item in aggregations]
    rows = [dict(zip(names, cells)) for cells in zip(*columns)] if columns else [{} for _ in range(buckets)]
    if posts:
        for row in rows:
            for post in posts:
                row[post["name"]] = post_aggregated(post, row)
    for row in rows if posts or any(not is_sketch(item) for item in aggregations) else ():
        for name, value in row.items():
            if type(value) is float and not -1.8e308 < value < 1.8e308:  # Druid writes these as texts
                row[name] = "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"
    return rows


def _stamps(starts: Milliseconds, read: _Query) -> list[str]:
    if read.grid.zone == "UTC":
        return [f"{text}Z" for text in np.datetime_as_string(starts.astype("M8[ms]")).tolist()]
    offsets = offsets_s(read.grid.zone, starts // 1000).tolist()
    return [instant_text(at_ms, offset) for at_ms, offset in zip(starts.tolist(), offsets)]


def _edge(table: Table, read: _Query, last: bool) -> Optional[int]:
    """Time of the first or last row that the filter selects."""
    extent = table.extent()
    if extent is None:
        return None
    sensors = sensors_of(read.filter)
    windows: Union[range, Sequence[int]] = range(extent[0], extent[1], 86_400_000)
    for start_ms in reversed(windows) if last else windows:
        found = []
        for block in table.blocks(start_ms, start_ms + 86_400_000, sensors):
            mask = matching(read.filter, Columns(block, read.virtual))
            times = block.time_ms if mask is None else block.time_ms[mask]
            if len(times):
                found.append(int(times[-1] if last else times[0]))
        if found:
            return max(found) if last else min(found)
        _in_time(read)
    return None


def _uncovered(read: _Query) -> list[Interval]:
    """Asked time that no segment covers."""
    result = []
    for start_ms, end_ms in read.intervals:
        at = start_ms
        for table in read.table:
            for segment_start, segment_end, _, _ in table.segments(start_ms, end_ms):
                if segment_start > at:
                    result.append(Interval(at, segment_start))
                at = max(at, segment_end)
        if at < end_ms:
            result.append(Interval(at, end_ms))
    return result
