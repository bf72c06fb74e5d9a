"""Aggregations and post-aggregations over buckets; knows nothing of time, filters' meaning or HTTP.

An aggregation's result is one value per bucket; None where Druid writes null.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Optional

import numpy as np
from numpy.typing import NDArray

from outliers.druid.simulator import refusal
from outliers.druid.simulator.columns import Columns
from outliers.druid.simulator.expression import evaluate
from outliers.druid.simulator.filters import check, matching
from outliers.druid.simulator.sketch import estimates, registers_of
from outliers.druid.simulator.table import Numbers

Values = list[Any]  # one per bucket: int, float or None
Row = dict[str, Any]

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
        if not isinstance(item, Mapping):
            raise refusal.wrong_shape()
        names.append(_check_post(item, named=True))
    if len(set(names)) < len(names):
        raise refusal.bad_value()


def _list(value: Any) -> Sequence[Any]:
    if value is None:
        return ()
    if not isinstance(value, list):
        raise refusal.wrong_shape()
    return value


def _check_aggregation(item: Any) -> str:
    if not isinstance(item, Mapping):
        raise refusal.wrong_shape()
    kind, name = item.get("type"), item.get("name")
    if kind == "filtered":
        if item.get("aggregator") is None or item.get("filter") is None:
            raise refusal.bad_value()
        check(item["filter"])
        inner = _check_aggregation(item["aggregator"])
        return name if isinstance(name, str) and name else inner
    if kind not in (*_NUMERIC, "count", "hyperUnique", "cardinality"):
        raise refusal.unknown_type()
    if not isinstance(name, str):
        raise refusal.bad_value()
    if kind in _NUMERIC and (item.get("fieldName") is None) == (item.get("expression") is None):
        raise refusal.bad_value()
    if kind == "hyperUnique" and item.get("fieldName") is None:
        raise refusal.bad_value()
    if kind == "cardinality" and not (item.get("fields") or item.get("fieldNames")):
        raise refusal.bad_value()
    return name


def _check_post(item: Any, named: bool = False) -> str:
    if not isinstance(item, Mapping):
        raise refusal.wrong_shape()
    kind, name = item.get("type"), item.get("name")
    if kind not in _POSTS:
        raise refusal.unknown_type()
    if named and not isinstance(name, str):
        raise refusal.bad_value()
    if kind == "arithmetic":
        if item.get("fn") not in _ARITHMETIC or not item.get("fields") or len(item["fields"]) < 2:
            raise refusal.bad_value()
        for field in item["fields"]:
            _check_post(field)
    return str(name)


def aggregated(item: Mapping[str, Any], selected: Sequence[Selected], buckets: int) -> Values:
    """One aggregation over all blocks."""
    kind = item["type"]
    if kind == "filtered":
        return aggregated(item["aggregator"], [_narrowed(part, item["filter"]) for part in selected], buckets)
    if kind == "count":
        return _counts(selected, buckets).tolist()
    if kind == "hyperUnique":
        return _distinct([_sketched(part, str(item["fieldName"])) for part in selected], buckets)
    if kind == "cardinality":
        return _distinct([_hashed(part, item) for part in selected], buckets)
    return _numeric(item, selected, buckets)


def output_name(item: Mapping[str, Any]) -> str:
    """The name of an aggregation's result."""
    name = item.get("name")
    return name if isinstance(name, str) and name else output_name(item["aggregator"])


def is_sketch(item: Mapping[str, Any]) -> bool:
    """Whether the result is a distinct count's state, which only some post-aggregations can read."""
    return (
        is_sketch(item["aggregator"]) if item["type"] == "filtered" else item["type"] in ("hyperUnique", "cardinality")
    )


def _narrowed(part: Selected, filter: Any) -> Selected:
    mask = matching(filter, part.columns, indexed=False)
    if mask is None:
        return part
    return part._replace(mask=mask if part.mask is None else part.mask & mask)


def _counts(selected: Sequence[Selected], buckets: int) -> NDArray[np.int64]:
    total = np.zeros(buckets, np.int64)
    for part in selected:
        bucket = part.bucket if part.mask is None else part.bucket[part.mask]
        total += np.bincount(bucket, minlength=buckets)
    return total


def _numeric(item: Mapping[str, Any], selected: Sequence[Selected], buckets: int) -> Values:
    kind, how = _NUMERIC[item["type"]]
    dtype = np.int64 if kind == "long" else np.float64
    seen = np.zeros(buckets, np.int64)
    extreme = np.iinfo(np.int64) if kind == "long" else None
    low, high = (extreme.min, extreme.max) if extreme else (-np.inf, np.inf)
    total = np.full(buckets, {"Sum": 0, "Max": low, "Min": high}[how], dtype)
    for part in selected:
        numbers = _inputs(item, part.columns)
        if numbers is None:
            continue
        use = part.mask
        if numbers.null is not None:
            use = ~numbers.null if use is None else use & ~numbers.null
        values, bucket = numbers.values.astype(dtype, copy=False), part.bucket
        if use is not None:
            values, bucket = values[use], bucket[use]
        if not len(values):
            continue
        seen += np.bincount(bucket, minlength=buckets)
        _reduce(how, total, values, bucket)
    return [value if count else None for value, count in zip(total.tolist(), seen.tolist())]


def _reduce(how: str, total: NDArray[Any], values: NDArray[Any], bucket: NDArray[np.int64]) -> None:
    """Fold values into `total`, in place. Rows are sorted by time, so equal buckets lie together."""
    starts = np.flatnonzero(np.append(True, bucket[1:] != bucket[:-1]))
    if how == "Sum":
        np.add.at(total, bucket[starts], np.add.reduceat(values, starts))
    elif how == "Max":
        np.maximum.at(total, bucket[starts], np.maximum.reduceat(values, starts))
    else:
        np.minimum.at(total, bucket[starts], np.minimum.reduceat(values, starts))


def _inputs(item: Mapping[str, Any], columns: Columns) -> Optional[Numbers]:
    if item.get("expression") is not None:
        return columns.expression(str(item["expression"]))
    return columns.numbers(str(item["fieldName"]))


Entries = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]  # bucket, register, rank
_NO_ENTRIES: Entries = (np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.int64))


def _sketched(part: Selected, field: str) -> Entries:
    sketch = part.columns.sketch(field)
    if sketch is None:
        return _NO_ENTRIES
    row, register, rank = sketch
    if part.mask is not None:
        use = part.mask[row]
        row, register, rank = row[use], register[use], rank[use]
    return part.bucket[row], register.astype(np.int64), rank.astype(np.int64)


def _hashed(part: Selected, item: Mapping[str, Any]) -> Entries:
    """A `cardinality` by value over dimensions; by row where there is one dimension is the same."""
    fields = item.get("fields") or item.get("fieldNames") or ()
    if item.get("byRow") and len(fields) > 1:
        raise refusal.unsupported("cardinality by row over several dimensions")
    found = []
    for spec in fields:
        texts = part.columns.texts(spec if isinstance(spec, str) else str(spec.get("dimension")))
        pairs = np.array([registers_of((value or "").encode("utf-16-le")) for value in texts.values], np.int64)
        known = np.array([value is not None for value in texts.values], bool)[texts.codes]
        use = known if part.mask is None else known & part.mask
        codes = texts.codes[use]
        found.append((part.bucket[use], pairs[codes, 0], pairs[codes, 1]))
    return _joined(found)


def _joined(found: Sequence[Entries]) -> Entries:
    if not found:
        return _NO_ENTRIES
    bucket, register, rank = (np.concatenate(column) for column in zip(*found))
    return bucket, register, rank


def _distinct(found: Sequence[Entries], buckets: int) -> Values:
    bucket, register, rank = _joined(found)
    result: Values = estimates(bucket, register, rank, buckets).tolist()
    return result


def _divided(left: float, right: float) -> float:
    return 0.0 if right == 0 else left / right


def _quotient(left: float, right: float) -> float:
    if right == 0:
        return math.nan if left == 0 or math.isnan(left) else math.copysign(math.inf, left) * math.copysign(1, right)
    return left / right


_ARITHMETIC: dict[Any, Callable[[float, float], float]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": _divided,
    "quotient": _quotient,
    "pow": lambda a, b: float(a) ** b,
}
_GREATEST = {
    "doubleGreatest": (max, float),
    "longGreatest": (max, int),
    "doubleLeast": (min, float),
    "longLeast": (min, int),
}
_FIELDS = ("fieldAccess", "finalizingFieldAccess", "hyperUniqueCardinality")
_POSTS = {"arithmetic", "constant", "expression", *_FIELDS, *_GREATEST}


def post_aggregated(item: Mapping[str, Any], row: Row) -> Any:
    """One post-aggregation of one row; None where a part of it is null."""
    kind = item["type"]
    if kind == "constant":
        return item.get("value")
    if kind in _FIELDS:
        return row.get(str(item.get("fieldName")))
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
