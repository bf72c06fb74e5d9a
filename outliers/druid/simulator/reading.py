"""Reads the parts that all queries share, as Druid reads them or refuses to; knows nothing of rows or HTTP."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Optional

import numpy as np
from numpy.typing import NDArray

from outliers.druid.simulator import refusal
from outliers.druid.simulator.aggregate import check_aggregations
from outliers.druid.simulator.filters import check
from outliers.druid.simulator.table import Table
from outliers.errors import Unservable
from outliers.series import Granularity, Interval, parse_intervals
from outliers.times import Period, parse_instant_ms

MOST_BUCKETS = 3_000_000  # more end a historical node of half a gigabyte
Milliseconds = NDArray[np.int64]


class Grid(NamedTuple):
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


class Asked(NamedTuple):
    """The parts that all kinds of query share, read and checked."""

    tables: Sequence[Table]
    intervals: Sequence[Interval]
    grid: Grid
    filter: Any
    context: Mapping[str, Any]
    virtual: Sequence[Mapping[str, Any]]
    descending: bool
    deadline: float

    def is_set(self, key: str) -> bool:
        """Whether a flag of the context is on."""
        value = self.context.get(key)
        if value is not None and not isinstance(value, (bool, str)):
            raise refusal.bad_context(f"Expected key [{key}] to be a Boolean, but got [{value}]")
        return value is True or str(value).lower() == "true"

    def uncovered_limit(self) -> int:
        """How many uncovered intervals the header may tell, 0 for none."""
        value = self.context.get("uncoveredIntervalsLimit") or 0
        limit = whole(value)
        if limit is None:
            raise refusal.bad_context(
                f"Expected key [uncoveredIntervalsLimit] to be in integer format, but got [{value}]"
            )
        return limit

    def keep_time(self) -> None:
        """Raise the Refusal of a query that has run out of its time."""
        if time.monotonic() > self.deadline:
            raise refusal.timed_out(str(self.context.get("queryId") or uuid.uuid4()))


def read(query: Mapping[str, Any], tables: Sequence[Table]) -> Asked:
    """The shared parts of a query, or the Refusal of what is wrong in them."""
    began = time.monotonic()
    check(query.get("filter"))
    check_aggregations(query.get("aggregations"), query.get("postAggregations"))
    boundary = query.get("queryType") == "timeBoundary"
    intervals = () if boundary and query.get("intervals") is None else _intervals(query.get("intervals"))
    grid = Grid() if boundary else _grid(query.get("granularity"))
    if query.get("descending") not in (None, True, False, "true", "false", ""):
        raise _no_scalar(query["descending"])
    context = query.get("context")
    if context is not None and not isinstance(context, Mapping):
        raise refusal.wrong_shape()
    context = context or {}
    timeout_ms = _timeout(context)
    return Asked(
        tables,
        intervals,
        grid,
        query.get("filter"),
        context,
        query.get("virtualColumns") or (),
        query.get("descending") in (True, "true"),
        began + timeout_ms / 1000 if timeout_ms else float("inf"),
    )


def _intervals(value: Any) -> Sequence[Interval]:
    if value == []:
        return ()
    try:
        return parse_intervals(value)
    except Unservable as error:
        raise refusal.bad_value() from error


def _grid(value: Any) -> Grid:
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
                Period.parse(str(value["period"]))
                parse_instant_ms(str(value.get("origin") or "1970"))
            except ValueError as error:
                raise refusal.bad_period() from error
    elif value is None:
        raise refusal.bad_value()
    elif not isinstance(value, str):
        raise refusal.wrong_shape()
    else:
        kind = value.lower()
    if kind in ("all", "none"):
        return Grid(step=(1, 0)) if kind == "none" else Grid()
    try:
        return Grid(calendar=Granularity.parse(value))
    except Unservable as error:
        raise refusal.bad_value() from error


def _duration(value: Mapping[str, Any]) -> Grid:
    length_ms = whole(value.get("duration"))
    if length_ms is None and value.get("duration") is not None:
        raise _no_scalar(value["duration"])
    if length_ms is None or length_ms <= 0:
        raise refusal.bad_value()
    origin = value.get("origin")
    try:
        anchor_ms = 0 if origin is None else parse_instant_ms(str(origin))
    except ValueError as error:
        raise refusal.bad_period() from error
    return Grid(step=(length_ms, anchor_ms % length_ms))


def _timeout(context: Mapping[str, Any]) -> int:
    """Milliseconds, 0 for none."""
    value = context.get("timeout", 300_000)
    timeout_ms = whole(value)
    if timeout_ms is None:
        raise refusal.bad_context(f"Expected key [timeout] to be in long format, but got [{value}]")
    if timeout_ms < 0:
        raise refusal.bad_context(f"Timeout [timeout] must be a non negative value, but was {timeout_ms}")
    return timeout_ms


def limit_of(query: Mapping[str, Any]) -> Optional[int]:
    value = query.get("limit")
    if value is None or value == 0:
        return None
    limit = whole(value)
    if limit is None:
        raise _no_scalar(value)
    if limit < 0:
        raise refusal.bad_value()
    return limit


def threshold_of(query: Mapping[str, Any]) -> int:
    """How many entries a topN gives; a negative number is refused once there are rows."""
    value = query.get("threshold")
    threshold = whole(value)
    if threshold is None and value is not None:
        raise _no_scalar(value)
    if not threshold:
        raise refusal.bad_value()
    return threshold


def _no_scalar(value: Any) -> refusal.Refusal:
    """What is said of a value where a number or a flag belongs."""
    return refusal.wrong_shape() if isinstance(value, (list, Mapping)) else refusal.bad_format()


def whole(value: Any) -> Optional[int]:
    if isinstance(value, bool) or not isinstance(value, (int, str, float)):
        return None
    try:
        return int(value)
    except ValueError:
        return None
