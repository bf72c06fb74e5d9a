"""A time series on its regular grid, and the granularity and intervals that make the grid; knows no JSON or HTTP.

The rules of the grid are those of Druid's PeriodGranularity and DurationGranularity (processing/…/java/util/common/
granularity), held in the tests to a real Druid's recorded answers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple, Optional, Union

import numpy as np
from numpy.typing import NDArray

from outliers.errors import Unservable
from outliers.times import (
    DAY_S,
    YEAR_S,
    Period,
    add_months,
    civil_of,
    fixed_offset_s,
    instant_text,
    offsets_s,
    parse_instant_ms,
    period_text,
    to_utc_s,
    zone_name,
)

Seconds = NDArray[np.int64]

LEAD_IN_BUCKETS, LEAD_IN_MOST_S = 1440, 28 * DAY_S
_MONDAY_S = 4 * DAY_S  # 1970-01-05
_LONGEST_S = 100 * YEAR_S
_SIMPLE = {
    "second": "PT1S",
    "minute": "PT1M",
    "five_minute": "PT5M",
    "ten_minute": "PT10M",
    "fifteen_minute": "PT15M",
    "thirty_minute": "PT30M",
    "hour": "PT1H",
    "six_hour": "PT6H",
    "eight_hour": "PT8H",
    "day": "P1D",
    "week": "P1W",
    "month": "P1M",
    "quarter": "P3M",
    "year": "P1Y",
}


@dataclass(frozen=True)
class Series:
    """Values of some metrics on a regular grid of buckets.

    timestamps: int64 [T], Unix seconds UTC of each bucket's start, ascending, one per bucket (calendar
        granularities have buckets of unequal length, but no bucket is left out).
    values: float64 [T, M], raw units, NaN = missing.
    metrics: the M names, in column order.
    granularity: canonical ISO text, e.g. "PT1M" (what a model's metadata is keyed by).
    step_s: nominal seconds of a bucket.
    """

    timestamps: NDArray[np.int64]
    values: NDArray[np.float64]
    metrics: tuple[str, ...]
    granularity: str
    step_s: int

    def __len__(self) -> int:
        return len(self.timestamps)

    def column(self, metric: str) -> int:
        """Position of `metric` in `values`; ValueError if the series does not have it."""
        return self.metrics.index(metric)


def distinct(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """The values sorted, each once; numpy 2.4 hashes in `unique`, ten times slower on what is nearly sorted."""
    if (values[1:] > values[:-1]).all():
        return values
    ordered = np.sort(values, kind="stable")
    return ordered[np.append(True, ordered[1:] != ordered[:-1])] if len(ordered) else ordered


class Interval(NamedTuple):
    """[start_ms, end_ms) in milliseconds since 1970, UTC."""

    start_ms: int
    end_ms: int

    def __str__(self) -> str:
        return f"{instant_text(self.start_ms)}/{instant_text(self.end_ms)}"


def lead_in_s(step_s: int) -> int:
    """Seconds before a query that its rows are judged in the context of: 1,440 buckets, and never more than 28 days."""
    return min(LEAD_IN_BUCKETS * step_s, LEAD_IN_MOST_S)


def parse_intervals(value: Any) -> tuple[Interval, ...]:
    """Read a query's `intervals` in any form that Druid takes; sorted, and merged where they touch or overlap.

    A text, texts separated by commas, a list, or {"type": "intervals", "intervals": …}. Intervals of no length are
    left out. Unservable says which one Druid would refuse.
    """
    if isinstance(value, Mapping):
        if str(value.get("type", "intervals")).lower() not in ("intervals", "legacy"):
            raise Unservable(f"intervals of type {value.get('type')!r} cannot be asked")
        value = value.get("intervals")
    texts = value.split(",") if isinstance(value, str) else value
    if not isinstance(texts, (list, tuple)) or not texts or not all(isinstance(text, str) for text in texts):
        raise Unservable("the query's intervals are not an ISO interval or a list of them")
    merged: list[Interval] = []
    for interval in sorted(_parse_interval(text) for text in texts):
        if merged and interval.start_ms <= merged[-1].end_ms:
            merged[-1] = Interval(merged[-1].start_ms, max(merged[-1].end_ms, interval.end_ms))
        else:
            merged.append(interval)
    return tuple(interval for interval in merged if interval.end_ms > interval.start_ms)


@lru_cache(maxsize=1024)  # one request reads its interval in five places
def _parse_interval(text: str) -> Interval:
    start_text, slash, end_text = (part.strip() for part in text.partition("/"))
    try:
        if not slash:
            raise ValueError(f"{text!r} is not START/END")
        if start_text[:1] in ("P", "p"):
            end_ms = parse_instant_ms(end_text)
            interval = Interval(Period.parse(start_text).add(end_ms, -1), end_ms)
        else:
            start_ms = parse_instant_ms(start_text)
            period = end_text[:1] in ("P", "p")
            interval = Interval(
                start_ms, Period.parse(end_text).add(start_ms, 1) if period else parse_instant_ms(end_text)
            )
        if interval.end_ms < interval.start_ms:
            raise ValueError("it ends before it starts")
    except ValueError as error:
        raise Unservable(f"the interval {text!r} cannot be read: {error}") from error
    return interval


class _Exact(NamedTuple):
    """Buckets of one length, counted from an anchor."""

    step_s: int
    anchor_s: int

    def bucket(self, at_s: Seconds) -> NDArray[np.int64]:
        return (at_s - self.anchor_s) // self.step_s

    def start(self, index: NDArray[np.int64]) -> Seconds:
        return index * self.step_s + self.anchor_s


class _Calendar(NamedTuple):
    """Buckets of whole months or whole days by the clock of a time zone, counted from a local time."""

    months: int  # one of months and days is 0
    days: int
    origin_local_s: int
    zone: str

    def bucket(self, at_s: Seconds) -> NDArray[np.int64]:
        local = at_s + offsets_s(self.zone, at_s)
        if self.days:
            index = (local - self.origin_local_s) // (self.days * DAY_S)
        else:
            (year, month, _), (year0, month0, _) = civil_of(local // DAY_S), civil_of(self.origin_local_s // DAY_S)
            index = ((year - year0) * 12 + month - month0) // self.months
        # A clock that was moved, or a later day of the month, may put the estimate one bucket off.
        index = index - (self.start(index) > at_s)
        return index + (self.start(index + 1) <= at_s)

    def start(self, index: NDArray[np.int64]) -> Seconds:
        if self.days:
            return to_utc_s(self.zone, index * (self.days * DAY_S) + self.origin_local_s)
        day0, clock = divmod(self.origin_local_s, DAY_S)
        return to_utc_s(self.zone, add_months(day0, index * self.months) * DAY_S + clock)


class _Stepped(NamedTuple):
    """Buckets of mixed units (P1M15D, P1DT12H across a change of the clock): Druid steps from the origin."""

    period: Period
    origin_s: int
    zone: str

    def bucket(self, at_s: Seconds) -> NDArray[np.int64]:
        table = self._table(int(at_s.max()))
        if len(at_s) and at_s.min() < self.origin_s:
            raise Unservable(f"a granularity of {self.period} has no buckets before its origin")
        return np.searchsorted(table, at_s, side="right") - 1

    def start(self, index: NDArray[np.int64]) -> Seconds:
        until_s = self.origin_s + (int(index.max()) + 2) * (self.period.nominal_s + DAY_S)
        return self._table(until_s)[index]

    def _table(self, until_s: int) -> Seconds:
        horizon_s = (until_s // (366 * DAY_S) + 2) * 366 * DAY_S
        if (horizon_s - self.origin_s) // max(self.period.nominal_s, 1) > 200_000:
            raise Unservable(f"a granularity of {self.period} is too fine to be counted from its origin")
        return _stepped_starts(self.period, self.origin_s, self.zone, horizon_s)


@lru_cache(maxsize=16)
def _stepped_starts(period: Period, origin_s: int, zone: str, until_s: int) -> Seconds:
    starts = [origin_s]
    while starts[-1] <= until_s:
        starts.append(period.add(starts[-1] * 1000, 1, zone) // 1000)
    return np.array(starts, np.int64)


Grid = Union[_Exact, _Calendar, _Stepped]


@dataclass(frozen=True)
class Granularity:
    """Where buckets start and end.

    text: canonical ISO period ("PT1M", "PT1H30M", "P1D"), without time zone and origin.
    step_s: nominal seconds of a bucket (a month counts 30 days, a year 365).
    zone: the time zone of the calendar and of the timestamps that Druid writes: "UTC", an IANA name or "+02:00".
    grid: how buckets are counted.
    """

    text: str
    step_s: int
    zone: str
    grid: Grid

    @classmethod
    def parse(cls, value: Any) -> Granularity:
        """Read a query's `granularity` in any form that Druid takes; Unservable for `all`, `none` and what is none."""
        if isinstance(value, str):
            name = value.strip().lower()
            kind, fields = (name, {}) if name in ("all", "none") else ("period", {"period": _SIMPLE.get(name)})
            if name not in _SIMPLE and kind == "period":
                raise Unservable(f"the granularity {value!r} is not one that Druid knows{_spelt_otherwise(name)}")
        elif isinstance(value, Mapping):
            kind = str(value.get("type", "")).lower()
            fields = {str(key): field for key, field in value.items()}
        else:
            raise Unservable("the query names no granularity")
        if kind in ("all", "none"):
            why = "makes one bucket of everything" if kind == "all" else "makes a bucket of every millisecond"
            raise Unservable(f"the granularity {kind!r} cannot be judged: it {why}")
        try:
            if kind == "period":
                return _of_period(fields)
            if kind == "duration":
                return _of_duration(fields)
        except ValueError as error:
            raise Unservable(f"the granularity cannot be read: {error}") from error
        raise Unservable(f"the granularity type {kind!r} is not one that Druid knows")

    @classmethod
    def of_step(cls, step_s: int, anchor_s: int = 0) -> Granularity:
        """Buckets of `step_s` seconds, one of which starts at `anchor_s`."""
        return cls(period_text(step_s), step_s, "UTC", _Exact(step_s, anchor_s % step_s))

    def floor(self, at_s: Union[int, Seconds]) -> Seconds:
        """Start of the bucket that holds each instant, int64 of the same shape (at least 1-d)."""
        return self.grid.start(self.grid.bucket(np.atleast_1d(np.asarray(at_s, np.int64))))

    def starts(self, start_s: int, end_s: int) -> Seconds:
        """Starts of all buckets that hold a part of [start_s, end_s), int64 [T]; the first may lie before start_s."""
        if end_s <= start_s:
            return np.empty(0, np.int64)
        first, last = self.grid.bucket(np.array([start_s, end_s - 1], np.int64))
        return self.grid.start(np.arange(first, last + 1, dtype=np.int64))

    def ends(self, starts_s: Seconds) -> Seconds:
        """End of each bucket, given its start: int64 [T]; `ends - starts` are the bucket's own seconds."""
        if not len(starts_s) or isinstance(self.grid, _Exact):
            return starts_s + self.step_s
        return self.grid.start(self.grid.bucket(starts_s) + 1)

    def positions(self, at_s: Seconds, starts_s: Seconds) -> NDArray[np.int64]:
        """Index of each instant in consecutive bucket starts; outside them below 0 or from len(starts_s) on."""
        if isinstance(self.grid, _Exact):
            return (at_s - starts_s[0]) // self.step_s
        positions = np.searchsorted(starts_s, at_s, side="right") - 1
        return np.where(at_s >= self.ends(starts_s[-1:])[0], len(starts_s), positions)

    def count(self, intervals: Iterable[Interval]) -> int:
        """Buckets of the grid that spans all intervals, at most two too many; makes no array, however long they are."""
        bounds = [bound for interval in intervals for bound in interval]
        if not bounds:
            return 0
        if isinstance(self.grid, _Exact):
            first, last = (b // 1000 - self.grid.anchor_s for b in (min(bounds), max(bounds) - 1))
            return last // self.step_s - first // self.step_s + 1
        return (max(bounds) - min(bounds)) // (self.step_s * 1000) + 2


def _spelt_otherwise(name: str) -> str:
    """How Druid wants an ISO period that stands as plain text, as a hint behind a sentence; "" where it is none."""
    period = name.upper()
    try:
        _of_period({"period": period})
    except (ValueError, Unservable):
        return ""
    simple = next((f"{simple!r} or " for simple, same in _SIMPLE.items() if same == period), "")
    return f': write {simple}{{"type": "period", "period": "{period}"}}'


def _of_period(fields: Mapping[str, Any]) -> Granularity:
    text = fields.get("period")
    if not isinstance(text, str):
        raise ValueError("a period granularity needs a period")
    return _period_granularity(text, _text(fields.get("timeZone")), _origin_s(fields.get("origin")))


@lru_cache(maxsize=256)  # one request reads its granularity in four places
def _period_granularity(text: str, zone_text: Optional[str], origin_s: Optional[int]) -> Granularity:
    period, zone = Period.parse(text), zone_name(zone_text)
    if period.ms % 1000:
        raise ValueError(f"{text!r}: buckets of parts of a second cannot be judged")
    if period.nominal_s > _LONGEST_S:
        raise ValueError(f"{text!r}: buckets of more than a century cannot be judged")
    grid = _grid_of(period, zone, origin_s)
    exact = isinstance(grid, _Exact) and not period.weeks
    return Granularity(period_text(period.nominal_s) if exact else str(period), period.nominal_s, zone, grid)


def _of_duration(fields: Mapping[str, Any]) -> Granularity:
    try:
        duration_ms = int(fields["duration"])
    except (KeyError, TypeError, ValueError):
        raise ValueError("a duration granularity needs a duration in milliseconds") from None
    if duration_ms <= 0:
        raise ValueError("a duration must be longer than nothing")
    if duration_ms > _LONGEST_S * 1000:
        raise ValueError("buckets of more than a century cannot be judged")
    if duration_ms % 1000:
        raise ValueError("buckets of parts of a second cannot be judged")
    return Granularity.of_step(duration_ms // 1000, _origin_s(fields.get("origin")) or 0)


def _grid_of(period: Period, zone: str, origin_s: Optional[int]) -> Grid:
    offset_s = fixed_offset_s(zone)
    units = sum(map(bool, (period.months, period.weeks, period.days, period.ms)))
    local0_s = 0 if origin_s is None else origin_s + int(offsets_s(zone, np.array([origin_s]))[0])
    if period.weeks == 1 and units == 1 and origin_s is None:
        local0_s = _MONDAY_S  # a single week starts on Monday, several count from the Thursday of 1970-01-01
    if not period.months and (offset_s is not None or not (period.weeks or period.days)):
        step_s = period.nominal_s
        if origin_s is not None:
            return _Exact(step_s, origin_s % step_s)
        if offset_s is None:  # single units start with the clock's, others count from local midnight of 1970
            offset_s = int(offsets_s(zone, np.array([50 * 365 * DAY_S if step_s in (1, 60, 3600) else 0]))[0])
        return _Exact(step_s, (local0_s - offset_s) % step_s)
    if units == 1:
        return _Calendar(period.months, period.weeks * 7 + period.days, local0_s, zone)
    return _Stepped(period, int(to_utc_s(zone, np.array([local0_s]))[0]) if origin_s is None else origin_s, zone)


def _origin_s(value: Any) -> Optional[int]:
    if value is None:
        return None
    at_ms = value if isinstance(value, int) else parse_instant_ms(str(value))
    if at_ms % 1000:
        raise ValueError(f"the origin {value!r} is not a whole second")
    if abs(at_ms) > 100 * _LONGEST_S * 1000:
        raise ValueError(f"the origin {value!r} is too far away")
    return at_ms // 1000


def _text(value: Any) -> Optional[str]:
    return value if isinstance(value, str) else None
