"""Aggregations and post-aggregations over buckets; knows nothing of time, filters' meaning or HTTP.

An aggregation's result is one value per bucket; None where Druid writes null.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Optional, Protocol

import numpy as np
from numpy.typing import NDArray

from outliers.druid.simulator import refusal
from outliers.druid.simulator.columns import Columns
from outliers.druid.simulator.expression import evaluate
from outliers.druid.simulator.filters import check, matching
from outliers.druid.simulator.sketch import entries_of, estimates, registers_of
from outliers.druid.simulator.table import Numbers

Values = list[Any]  # one per bucket: int, float or None
Row = dict[str, Any]

# Druid has these too: what ends so is refused as unsupported, not as unknown.
_NOT_HERE = ("First", "Last", "Any", "Mean")
_NUMERIC = {f"{kind}{how}": (kind, how) for kind in ("long", "double", "float") for how in ("Sum", "Max", "Min")}


class Selected(NamedTuple):
    """Rows of one block that the query's filter lets through, and the bucket of each (int64 [R])."""

    columns: Columns
    bucket: NDArray[np.int64]
    mask: Optional[NDArray[np.bool_]]  # None: all rows


def check_aggregations(aggregations: Any, posts: Any) -> None:
    """Raise the Refusal that Druid answers to aggregations that it cannot read."""
    names = [_check_aggregation(item) for item in _list(aggregations)]
    for item in _list(posts):
        names.append(_check_post(item, names, named=True))
    if len(set(names)) < len(names):
        raise refusal.bad_value()


def _list(value: Any) -> Sequence[Any]:
    if value is None:
        return ()
    if not isinstance(value, list):
        raise refusal.wrong_shape()
    return value


def _check_object(item: Any) -> None:
    """An object with a type belongs here."""
    if item is None:
        raise refusal.bad_value()
    if not isinstance(item, Mapping):
        raise refusal.wrong_shape() if isinstance(item, list) else refusal.unknown_type()


def _check_aggregation(item: Any) -> str:
    _check_object(item)
    kind, name = item.get("type"), item.get("name")
    if kind == "filtered":
        if item.get("aggregator") is None or item.get("filter") is None:
            raise refusal.bad_value()
        check(item["filter"])
        inner = _check_aggregation(item["aggregator"])
        return name if isinstance(name, str) and name else inner
    if isinstance(kind, str) and kind.endswith(_NOT_HERE):
        raise refusal.unsupported(f"an aggregation of type {kind}")
    if kind not in (*_NUMERIC, "count", "hyperUnique", "cardinality"):
        raise refusal.unknown_type()
    if name is None or isinstance(name, (dict, list)):
        raise refusal.bad_value()
    if kind in _NUMERIC and (item.get("fieldName") is None) == (item.get("expression") is None):
        raise refusal.bad_value()
    if kind == "cardinality" and not (item.get("fields") or item.get("fieldNames")):
        raise refusal.bad_value()
    return str(name)


def _check_post(item: Any, known: Sequence[str], named: bool = False) -> str:
    _check_object(item)
    kind, name = item.get("type"), item.get("name")
    if kind not in _POSTS:
        raise refusal.unknown_type()
    if named and not isinstance(name, str):
        raise refusal.bad_value()
    if kind in _FIELDS and item.get("fieldName") not in known:
        raise refusal.bad_value()
    if kind == "arithmetic":
        if item.get("fn") not in _ARITHMETIC or not item.get("fields") or len(item["fields"]) < 2:
            raise refusal.bad_value()
        for field in item["fields"]:
            _check_post(field, known)
    return str(name)


class Fold(Protocol):
    """An aggregation in the making: blocks go in one after the other, values for every bucket come out."""

    def add(self, part: Selected) -> None: ...
    def values(self) -> Values: ...


def fold(item: Mapping[str, Any], buckets: int) -> Fold:
    """Begin one aggregation."""
    kind = item["type"]
    if kind == "filtered":
        return _Filtered(item["filter"], fold(item["aggregator"], buckets))
    if kind == "count":
        return Count(buckets)
    if kind in ("hyperUnique", "cardinality"):
        return _Distinct(item, buckets)
    return _Numeric(item, buckets)


def output_name(item: Mapping[str, Any]) -> str:
    """The name of an aggregation's result."""
    name = item.get("name")
    return output_name(item["aggregator"]) if item["type"] == "filtered" and not name else str(name)


def is_sketch(item: Mapping[str, Any]) -> bool:
    """Whether the result is a distinct count's state, which only some post-aggregations can read."""
    return (
        is_sketch(item["aggregator"]) if item["type"] == "filtered" else item["type"] in ("hyperUnique", "cardinality")
    )


class _Filtered:
    def __init__(self, filter: Any, inner: Fold) -> None:
        self._filter, self._inner = filter, inner

    def add(self, part: Selected) -> None:
        mask = matching(self._filter, part.columns, indexed=False)
        if mask is not None:
            part = part._replace(mask=mask if part.mask is None else part.mask & mask)
        self._inner.add(part)

    def values(self) -> Values:
        return self._inner.values()


class Count:
    """Rows in each bucket."""

    def __init__(self, buckets: int) -> None:
        self.total = np.zeros(buckets, np.int64)

    def add(self, part: Selected) -> None:
        _tally(self.total, part.bucket if part.mask is None else part.bucket[part.mask])

    def values(self) -> Values:
        result: Values = self.total.tolist()
        return result


def _tally(total: NDArray[np.int64], bucket: NDArray[np.int64]) -> None:
    """Count buckets into `total`, in place; a block lies in few of them, so only those are touched."""
    if len(bucket):
        low = int(bucket.min())
        counts = np.bincount(bucket - low)
        total[low : low + len(counts)] += counts


class _Numeric:
    def __init__(self, item: Mapping[str, Any], buckets: int) -> None:
        self._item = item
        kind, self._how = _NUMERIC[item["type"]]
        self._dtype = np.int64 if kind == "long" else np.float64
        low, high = (np.iinfo(np.int64).min, np.iinfo(np.int64).max) if kind == "long" else (-np.inf, np.inf)
        self._seen = np.zeros(buckets, np.int64)
        self._total = np.full(buckets, {"Sum": 0, "Max": low, "Min": high}[self._how], self._dtype)

    def add(self, part: Selected) -> None:
        numbers = _inputs(self._item, part.columns)
        if numbers is None:
            return
        use = part.mask
        if numbers.null is not None:
            use = ~numbers.null if use is None else use & ~numbers.null
        self._see_words(part)
        values, bucket = numbers.values.astype(self._dtype, copy=False), part.bucket
        if use is not None:
            values, bucket = values[use], bucket[use]
        if len(values):
            _tally(self._seen, bucket)
            _reduce(self._how, self._total, values, bucket)

    def _see_words(self, part: Selected) -> None:
        """A text that is no number adds nothing, and yet a bucket that has one is not null."""
        words = part.columns.words(str(self._item.get("fieldName")))
        if words is not None:
            _tally(self._seen, part.bucket[words if part.mask is None else words & part.mask])

    def values(self) -> Values:
        result: Values = self._total.tolist()
        for i in np.flatnonzero(self._seen == 0).tolist():
            result[i] = None
        if self._dtype is np.float64:
            for i in np.flatnonzero(~np.isfinite(self._total) & (self._seen > 0)).tolist():
                result[i] = written(result[i])
        return result


def written(value: Any) -> Any:
    """A value as Druid writes it: what is no finite number as a text."""
    if type(value) is float and not math.isfinite(value):
        return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"
    return value


def read(value: Any) -> Any:
    """The inverse of `written`."""
    return float(value) if isinstance(value, str) else value


def _reduce(how: str, total: NDArray[Any], values: NDArray[Any], bucket: NDArray[np.int64]) -> None:
    """Fold values into `total`, in place. Rows are sorted by time, so equal buckets lie together."""
    starts = np.flatnonzero(np.append(True, bucket[1:] != bucket[:-1]))
    reducer = _REDUCERS[how]
    reducer.at(total, bucket[starts], reducer.reduceat(values, starts))


_REDUCERS = {"Sum": np.add, "Max": np.maximum, "Min": np.minimum}


def _inputs(item: Mapping[str, Any], columns: Columns) -> Optional[Numbers]:
    if item.get("expression") is not None:
        return columns.expression(str(item["expression"]))
    return columns.numbers(str(item["fieldName"]))


class _Distinct:
    """A distinct count by registers: what is kept of a block is each register that was hit, once."""

    def __init__(self, item: Mapping[str, Any], buckets: int) -> None:
        self._item, self._buckets = item, buckets
        self._found: list[NDArray[np.int64]] = []

    def add(self, part: Selected) -> None:
        if self._item["type"] == "hyperUnique":
            if self._item.get("fieldName") is None:
                raise refusal.failed("java.lang.NullPointerException", "null")
            self._sketched(part, str(self._item["fieldName"]))
        else:
            self._hashed(part)

    def values(self) -> Values:
        entries = np.concatenate(self._found) if self._found else np.empty(0, np.int64)
        result: Values = estimates(entries, self._buckets).tolist()
        return result

    def _sketched(self, part: Selected, field: str) -> None:
        sketch = part.columns.sketch(field)
        if sketch is None:
            return
        row, register, rank = sketch
        if part.mask is not None:
            use = part.mask[row]
            row, register, rank = row[use], register[use], rank[use]
        self._found.append(entries_of(part.bucket[row], register, rank))

    def _hashed(self, part: Selected) -> None:
        """A `cardinality` by value over dimensions; by row where there is one dimension is the same."""
        fields = self._item.get("fields") or self._item.get("fieldNames") or ()
        if self._item.get("byRow") and len(fields) > 1:
            raise refusal.unsupported("cardinality by row over several dimensions")
        for spec in fields:
            texts = part.columns.texts(spec if isinstance(spec, str) else str(spec.get("dimension")))
            pairs = np.array([registers_of((value or "").encode("utf-16-le")) for value in texts.values], np.int64)
            known = np.array([value is not None for value in texts.values], bool)[texts.codes]
            use = known if part.mask is None else known & part.mask
            codes = texts.codes[use]
            self._found.append(entries_of(part.bucket[use], pairs[codes, 0], pairs[codes, 1]))


def _divided(left: float, right: float) -> float:
    return 0.0 if right == 0 else left / right


def _quotient(left: float, right: float) -> float:
    if right == 0:
        return math.nan if left == 0 or math.isnan(left) else math.copysign(math.inf, left) * math.copysign(1, right)
    return left / right


def _as_long(value: float) -> int:
    """Java's cast."""
    if not math.isfinite(value):
        return 0 if value != value else _LONG[value > 0]
    return int(value)


_LONG = (-(1 << 63), (1 << 63) - 1)
_ARITHMETIC: dict[Any, Callable[[float, float], float]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": _divided,
    "quotient": _quotient,
    "pow": lambda a, b: float(a) ** b,
}
_GREATEST: dict[Any, tuple[Callable[..., Any], Callable[[Any], Any]]] = {
    "doubleGreatest": (max, float),
    "longGreatest": (max, _as_long),
    "doubleLeast": (min, float),
    "longLeast": (min, _as_long),
}
_FIELDS = ("fieldAccess", "finalizingFieldAccess", "hyperUniqueCardinality")
_POSTS = {"arithmetic", "constant", "expression", *_FIELDS, *_GREATEST}


def post_aggregated(item: Mapping[str, Any], row: Row) -> Any:
    """One post-aggregation of one row; None where a part of it is null."""
    kind = item["type"]
    if kind == "constant":
        return item.get("value")
    if kind in _FIELDS:
        return read(row.get(str(item.get("fieldName"))))
    if kind == "expression":
        return _scalar(str(item.get("expression")), row)
    parts = [post_aggregated(field, row) for field in item.get("fields") or ()]
    if kind in _GREATEST:
        choose, cast = _GREATEST[kind]
        known = [part for part in parts if part is not None]
        return cast(choose(known)) if known else None
    if any(part is None for part in parts):
        return None
    result = float(parts[0])
    for part in parts[1:]:
        result = float(_ARITHMETIC[item["fn"]](result, float(part)))
    return result


def _scalar(text: str, row: Row) -> Any:
    def lookup(name: str) -> Optional[Numbers]:
        value = row.get(name)
        return None if value is None else Numbers(np.array([value]), None)

    def equal(name: str, wanted: str) -> Numbers:
        return Numbers(np.array([int(row.get(name) == wanted)]), None)

    result = evaluate(text, 1, lookup, equal)
    return None if result.null is not None and result.null[0] else result.values[0].item()
