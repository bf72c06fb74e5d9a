"""Druid's rows -> a `Series` on its regular grid, and where each row lies in it; knows nothing of HTTP or models.

The row rules are CONTRACT §2: what is missing, what is zero, what is repeated, unsorted or partial.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from operator import itemgetter
from typing import Any, NamedTuple, Optional

import numpy as np
from numpy.typing import NDArray

from outliers.druid.traffic import DERIVED, counting_of
from outliers.druid.traffic import with_derived as series_with_derived
from outliers.errors import InvalidRequest, Unservable
from outliers.series import Granularity, Interval, Series, distinct, parse_intervals
from outliers.times import DAY_S, instant_text, instants_ms

POINTS = 50_000  # default bound on the buckets of one grid
LARGEST = float(np.finfo(np.float32).max)  # models compute in float32


@dataclass(frozen=True)
class Parsed:
    """Rows on their grid; R rows, T buckets, M metrics. The grid goes from the first to the last row's bucket.

    series: values float64 [T, M], NaN = missing.
    granularity: what made the grid.
    ends_s: int64 [T], end of each bucket; `ends_s - series.timestamps` are its own seconds.
    timestamps: R texts, as Druid wrote them.
    row_position: int64 [R], the bucket of each row, in the order of the rows.
    present: bool [T], the bucket has a row.
    empty: bool [T], the bucket is there and no event fell into it.
    partial: bool [T], the asked interval holds only a part of the bucket.
    counts: bool [M], the metric counts: it is 0 where the bucket is empty (rates per second of a count too).
    missing: int64 [M], rows whose bucket is not empty but without this value.
    unusable: int64 [M], rows whose value is no number, or beyond LARGEST: missing too, not counted there.
    ends_early_s: end of the last row's bucket where the asked interval goes on after it, else None.
    warnings: sentences.
    """

    series: Series
    granularity: Granularity
    ends_s: NDArray[np.int64]
    timestamps: tuple[str, ...]
    row_position: NDArray[np.int64]
    present: NDArray[np.bool_]
    empty: NDArray[np.bool_]
    partial: NDArray[np.bool_]
    counts: NDArray[np.bool_]
    missing: NDArray[np.int64]
    unusable: NDArray[np.int64]
    ends_early_s: Optional[int]
    warnings: tuple[str, ...]

    @property
    def seconds(self) -> NDArray[np.float64]:
        """Each bucket's own seconds, float64 [T]."""
        return (self.ends_s - self.series.timestamps).astype(np.float64)


class _Rows(NamedTuple):
    texts: tuple[str, ...]
    at_s: NDArray[np.int64]  # [R]
    values: NDArray[np.float64]  # [R, M], infinite where there is something that is no number
    metrics: tuple[str, ...]


def parse_rows(
    rows: Sequence[Any],
    query: Optional[Mapping[str, Any]] = None,
    *,
    empty: str = "auto",
    points: int = POINTS,
    whole: bool = True,
) -> Parsed:
    """Put the rows of a timeseries answer on their grid.

    query: gives granularity, intervals and which metrics count; without one the step is the commonest gap.
    empty: `auto`, `zero` or `missing`, [Detection] empty.
    points: bound on the buckets of the grid; Unservable past it.
    whole: the rows should fill the query's interval (false for `data`, of which the interval is not asked).
    Raises InvalidRequest where a row is not one of Druid's, naming it.
    """
    read = _read(rows, query)
    warnings: list[str] = []
    intervals = parse_intervals(query["intervals"]) if query and whole and query.get("intervals") else ()
    if query is not None and query.get("granularity") is not None:
        granularity = Granularity.parse(query["granularity"])
    else:
        granularity = _commonest_gap(read.at_s, warnings)
        # To the nearest bucket: local midnights lie an hour beside the grid once the clock was changed.
        read = read._replace(at_s=granularity.floor(read.at_s + granularity.step_s // 2))
    starts_s, position = _place(read.at_s, granularity, points)
    series, row_of = _series(read, granularity, starts_s, position, warnings)
    present = row_of >= 0
    counts, rates = counting_of(query, read.metrics)
    is_empty = _fill_empty(series.values, present, counts, rates, empty, _sums(query, read.metrics))
    unusable = np.abs(series.values) > LARGEST
    series.values[unusable] = np.nan
    with_events = (present & ~is_empty)[:, None]
    ends_s = granularity.ends(starts_s)
    return Parsed(
        series=series,
        granularity=granularity,
        ends_s=ends_s,
        timestamps=read.texts,
        row_position=position,
        present=present,
        empty=is_empty,
        partial=_partial(starts_s, ends_s, intervals),
        counts=counts | rates,
        missing=(np.isnan(series.values) & ~unusable & with_events).sum(axis=0),
        unusable=(unusable & with_events).sum(axis=0),
        ends_early_s=_ends_early(ends_s, intervals, query),
        warnings=tuple(warnings),
    )


def with_derived(parsed: Parsed, metrics: Iterable[str] = DERIVED) -> Parsed:
    """Append the traffic metrics that follow from those there, with each bucket's own seconds."""
    series = series_with_derived(parsed.series, parsed.seconds, metrics)
    added = series.metrics[len(parsed.series.metrics) :]
    rates = counting_of(None, added)[1]
    new = np.isnan(series.values[:, len(parsed.series.metrics) :])
    return replace(
        parsed,
        series=series,
        counts=np.concatenate([parsed.counts, rates]),
        missing=np.concatenate([parsed.missing, (new & (parsed.present & ~parsed.empty)[:, None]).sum(axis=0)]),
        unusable=np.concatenate([parsed.unusable, np.zeros(len(added), np.int64)]),
    )


def with_lead_in(asked: Parsed, lead: Parsed, points: int = POINTS) -> tuple[Parsed, int]:
    """Put `lead` before `asked` on one grid of the asked granularity: the joined rows, and the first asked bucket.

    `row_position`, `timestamps`, `missing`, `unusable` and `ends_early_s` stay those of the asked rows; metrics are the
    asked ones.
    Buckets of `lead` from the first asked one on are left out.
    """
    first_s = asked.series.timestamps[:1]
    keep = int(np.searchsorted(lead.series.timestamps, first_s[0])) if len(first_s) else 0
    if not keep:
        return asked, 0
    starts_s = asked.granularity.starts(int(lead.series.timestamps[0]), int(asked.ends_s[-1]))
    if len(starts_s) > points:
        raise Unservable(f"with its lead-in the query has {len(starts_s)} buckets: at most {points} are served")
    offset = int(np.searchsorted(starts_s, first_s[0]))
    at = asked.granularity.positions(lead.series.timestamps[:keep], starts_s)

    def joined(before: NDArray[Any], after: NDArray[Any], fill: Any) -> NDArray[Any]:
        result = np.full((len(starts_s), *after.shape[1:]), fill, after.dtype)
        result[at] = before[:keep]
        result[offset:] = after
        return result

    before = lead.series.values
    if lead.series.metrics != asked.series.metrics:
        columns = [lead.series.metrics.index(m) if m in lead.series.metrics else -1 for m in asked.series.metrics]
        before = np.column_stack([before[:, c] if c >= 0 else np.full(len(before), np.nan) for c in columns])
    series = replace(asked.series, timestamps=starts_s, values=joined(before, asked.series.values, np.nan))
    return (
        replace(
            asked,
            series=series,
            ends_s=asked.granularity.ends(starts_s),
            row_position=asked.row_position + offset,
            present=joined(lead.present, asked.present, False),
            empty=joined(lead.empty, asked.empty, False),
            partial=joined(lead.partial, asked.partial, False),
        ),
        offset,
    )


def _read(rows: Sequence[Any], query: Optional[Mapping[str, Any]]) -> _Rows:
    """Rows -> columns; the row of `grandTotal`, whose timestamp is null, is none."""
    if not isinstance(rows, (list, tuple)):
        raise InvalidRequest("the data is not a list of Druid's rows")
    try:
        texts = [row["timestamp"] for row in rows]
        results = [row["result"] for row in rows]
    except (TypeError, KeyError, IndexError):
        number = next(i for i, row in enumerate(rows) if not _is_row(row))
        raise InvalidRequest(f"row {number} of the data is not an object with timestamp and result") from None
    if None in texts:
        results = [result for text, result in zip(texts, results) if text is not None]
        texts = [text for text in texts if text is not None]
    if not (set(map(type, texts)) <= {str} and set(map(type, results)) <= {dict}):
        number = next(i for i, pair in enumerate(zip(texts, results)) if tuple(map(type, pair)) != (str, dict))
        raise InvalidRequest(f"row {number} of the data has no text as timestamp or no object as result")
    try:
        at_s = instants_ms(texts) // 1000
    except ValueError as error:
        raise InvalidRequest(f"a timestamp of the data cannot be read: {error}") from error
    metrics, cells = _cells(results, query)
    return _Rows(tuple(texts), at_s, _matrix(cells, len(results), len(metrics)), metrics)


def _is_row(row: Any) -> bool:
    return isinstance(row, Mapping) and "timestamp" in row and "result" in row


def _cells(
    results: Sequence[Mapping[str, Any]], query: Optional[Mapping[str, Any]]
) -> tuple[tuple[str, ...], list[Any]]:
    """Metrics in the query's order, then those that only the rows carry; and the R × M cells, row by row."""
    keys = tuple(results[0]) if results else ()
    if keys and set(map(len, results)) == {len(keys)}:
        metrics = _ordered(keys, query)
        try:  # rows as long as the first, with all of its keys, have no other; and no Python step for each
            rows = map(itemgetter(*metrics), results)
            return metrics, list(rows if len(metrics) == 1 else chain.from_iterable(rows))
        except KeyError:
            pass
    metrics = _ordered(tuple(dict.fromkeys(chain.from_iterable(results))) if results else None, query)
    return metrics, [result.get(metric) for result in results for metric in metrics]


def _ordered(seen: Optional[tuple[str, ...]], query: Optional[Mapping[str, Any]]) -> tuple[str, ...]:
    """seen: None where there are no rows to carry anything."""
    asked = [name for name in names_of(query) if seen is None or name in seen] if query else []
    return tuple(dict.fromkeys([*asked, *(seen or ())]))


def names_of(query: Mapping[str, Any]) -> list[str]:
    """Output names of a query's aggregations (also inside `filtered`) and post-aggregations, in its order."""
    names = []
    for item in [*(query.get("aggregations") or ()), *(query.get("postAggregations") or ())]:
        name = output_name(item)
        if isinstance(name, str):
            names.append(name)
    return names


def output_name(aggregation: Any) -> Optional[str]:
    """The name under which Druid answers an aggregation; a `filtered` one may leave it to the one inside."""
    while isinstance(aggregation, Mapping):
        name = aggregation.get("name")
        if isinstance(name, str) and name:
            return name
        aggregation = aggregation.get("aggregator")
    return None


def _matrix(cells: list[Any], rows: int, metrics: int) -> NDArray[np.float64]:
    """float64 [R, M]; NaN where there is nothing, infinite where there is something that is no number."""
    if not set(map(type, cells)) <= {int, float, type(None)}:
        cells = [_number(cell) for cell in cells]
    try:
        flat = np.array(cells, np.float64)  # None becomes NaN
    except OverflowError:  # an integer that no float64 holds
        flat = np.array([_number(cell) for cell in cells], np.float64)
    return flat.reshape(rows, metrics)


def _number(cell: Any) -> float:
    if cell is None:
        return np.nan
    if isinstance(cell, bool) or not isinstance(cell, (int, float, str)):
        return np.inf
    try:
        return float(cell)
    except (ValueError, OverflowError):
        return np.inf


# Commonest gaps in days that betray a calendar: months, quarters and years have no one length.
_CALENDAR_DAYS = ((28, 31, "P1M"), (89, 92, "P3M"), (365, 366, "P1Y"))


def _commonest_gap(at_s: NDArray[np.int64], warnings: list[str]) -> Granularity:
    times = distinct(at_s)
    if len(times) < 2:
        if len(times):
            warnings.append("One row alone shows no step: a minute is assumed.")
        return Granularity.of_step(60, int(times[0]) if len(times) else 0)
    gaps = np.sort(np.diff(times))
    firsts = np.flatnonzero(np.append(True, gaps[1:] != gaps[:-1]))
    step_s = int(gaps[firsts[np.argmax(np.diff(np.append(firsts, len(gaps))))]])
    for low, high, period in _CALENDAR_DAYS:
        if low * DAY_S <= step_s <= high * DAY_S:
            return Granularity.parse({"type": "period", "period": period, "origin": int(times[0]) * 1000})
    return Granularity.of_step(step_s, int(times[0]))


def _place(
    at_s: NDArray[np.int64], granularity: Granularity, points: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Bucket starts from the first to the last row, and each row's position in them."""
    if not len(at_s):
        return np.empty(0, np.int64), np.empty(0, np.int64)
    first_s, last_s = int(at_s.min()), int(at_s.max())
    buckets = granularity.count([Interval(first_s * 1000, (last_s + 1) * 1000)])
    if buckets > points + 2:
        raise Unservable(f"the rows span {buckets} buckets of {granularity.text}: at most {points} are served")
    starts_s = granularity.starts(first_s, last_s + 1)
    return starts_s, granularity.positions(at_s, starts_s)


def _series(
    read: _Rows,
    granularity: Granularity,
    starts_s: NDArray[np.int64],
    position: NDArray[np.int64],
    warnings: list[str],
) -> tuple[Series, NDArray[np.int64]]:
    """The series, and for each bucket the row that counts in it (-1: none)."""
    row_of = np.full(len(starts_s), -1, np.int64)
    row_of[position] = np.arange(len(position))  # of a repeated index numpy keeps the last
    repeated = len(position) - int((row_of >= 0).sum())
    if repeated:
        warnings.append(
            f"{repeated} {'row repeats' if repeated == 1 else 'rows repeat'} a bucket: its last row counts."
        )
    values = np.full((len(starts_s), len(read.metrics)), np.nan)
    present = row_of >= 0
    values[present] = read.values[row_of[present]]
    return Series(starts_s, values, read.metrics, granularity.text, granularity.step_s), row_of


def _fill_empty(
    values: NDArray[np.float64],
    present: NDArray[np.bool_],
    counts: NDArray[np.bool_],
    rates: NDArray[np.bool_],
    mode: str,
    sums: NDArray[np.bool_],
) -> NDArray[np.bool_]:
    """Set counts of empty buckets to 0 and the rest of them missing, in place; bool [T]: which buckets are empty."""
    if mode == "zero":
        counts = counts | sums
    if not counts.any():
        return np.zeros(len(values), bool)
    nothing = np.nan_to_num(values[:, counts]) == 0
    empty: NDArray[np.bool_] = present & nothing.all(axis=1)
    if empty.any():
        rows = values[empty]
        zero = np.nan if mode == "missing" else 0.0
        rows = np.where(np.nan_to_num(rows) == 0, np.where(counts | rates, zero, np.nan), rows)
        values[empty] = rows
    return empty


def _sums(query: Optional[Mapping[str, Any]], metrics: tuple[str, ...]) -> NDArray[np.bool_]:
    """Which metrics are plain sums: zero where nothing is, if the settings say that empty means zero."""
    kinds = {}
    for item in (query or {}).get("aggregations") or ():
        inner = item
        while isinstance(inner, Mapping) and isinstance(inner.get("aggregator"), Mapping):
            inner = inner["aggregator"]
        if isinstance(inner, Mapping):
            kinds[output_name(item)] = str(inner.get("type")).lower()
    return np.array([kinds.get(m, "doublesum" if not query else "").endswith("sum") for m in metrics], bool)


def _partial(
    starts_s: NDArray[np.int64], ends_s: NDArray[np.int64], intervals: Iterable[Interval]
) -> NDArray[np.bool_]:
    partial = np.zeros(len(starts_s), bool)
    if not len(starts_s):
        return partial
    for start_ms, end_ms in intervals:
        holds_start = (starts_s * 1000 < start_ms) & (start_ms < ends_s * 1000)
        holds_end = (starts_s * 1000 < end_ms) & (end_ms < ends_s * 1000)
        partial |= holds_start | holds_end
    return partial


def _ends_early(
    ends_s: NDArray[np.int64], intervals: Sequence[Interval], query: Optional[Mapping[str, Any]]
) -> Optional[int]:
    if not intervals or not len(ends_s) or not query or query.get("limit"):
        return None
    if (query.get("context") or {}).get("skipEmptyBuckets"):
        return None
    end_s = int(ends_s[-1])
    return end_s if end_s * 1000 < intervals[-1].end_ms else None


def ends_early_warning(ends_early_s: int) -> str:
    """The sentence for `Parsed.ends_early_s`."""
    return f"Druid's answer ends at {instant_text(ends_early_s * 1000)}, before the end of the asked interval."
