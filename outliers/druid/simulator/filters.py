"""Druid's native filters over the columns of a block, in three-valued logic; knows nothing of time or HTTP.

A comparison with null is neither true nor false: `not` of it is not true either. As Druid does it, a filter is
evaluated with what `unknown` counts for, and `not` turns that around.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Optional

import numpy as np
from numpy.typing import NDArray

from outliers.druid.simulator import refusal
from outliers.druid.simulator.columns import Columns
from outliers.druid.simulator.table import Texts

Mask = NDArray[np.bool_]
Test = Callable[[str], bool]  # of a value that is not null


def matching(filter: Any, columns: Columns, indexed: bool = True) -> Optional[Mask]:
    """Rows that a filter selects, bool [R]; None for all of them.

    indexed: Druid reads the query's own filter from its indexes, one inside an aggregation row by row; the two differ
    in what a bound says of null.
    """
    return None if filter is None else _evaluate(filter, columns, False, indexed)


def check(filter: Any) -> None:
    """Raise the Refusal that Druid answers to a filter it cannot read."""
    if filter is None:
        return
    if not isinstance(filter, Mapping):
        raise refusal.wrong_shape() if isinstance(filter, list) else refusal.unknown_type()
    kind = filter.get("type")
    if kind in ("and", "or"):
        if not isinstance(filter.get("fields"), list) or not filter["fields"]:
            raise refusal.bad_value()
        for field in filter["fields"]:
            check(field)
    elif kind == "not":
        if filter.get("field") is None:
            raise refusal.bad_value()
        check(filter["field"])
    elif not isinstance(kind, str) or kind not in _KINDS:
        raise refusal.unknown_type()
    else:
        for key in _REQUIRED.get(str(kind), ()):
            if filter.get(key) is None:
                raise refusal.bad_value()
        if kind in ("bound", "range") and filter.get("lower") is None and filter.get("upper") is None:
            raise refusal.bad_value()


def sensors_of(filter: Any) -> Optional[frozenset[str]]:
    """Sensors outside which nothing can match, None where the filter does not say."""
    if not isinstance(filter, Mapping):
        return None
    kind = filter.get("type")
    if kind in ("and", "or"):
        parts = [sensors_of(field) for field in filter.get("fields") or ()]
        known = [part for part in parts if part is not None]
        if kind == "and":
            return frozenset.intersection(*known) if known else None
        return frozenset.union(*known) if known and len(known) == len(parts) else None
    value = filter.get("value", filter.get("matchValue"))
    if kind in ("selector", "equals") and filter.get("dimension", filter.get("column")) == "sensor_name":
        return frozenset([value]) if isinstance(value, str) else None
    if kind == "in" and filter.get("dimension") == "sensor_name":
        values = filter.get("values") or ()
        return frozenset(values) if all(isinstance(each, str) for each in values) else None
    return None


def _evaluate(filter: Mapping[str, Any], columns: Columns, unknown: bool, indexed: bool) -> Mask:
    kind = filter["type"]
    if kind in ("true", "false"):
        return np.full(len(columns), kind == "true")
    if kind == "not":
        inner = filter["field"]
        return ~_evaluate(inner, columns, not unknown, indexed and _has_index(inner, columns))
    if kind in ("and", "or"):
        masks = [_evaluate(field, columns, unknown, indexed) for field in filter["fields"]]
        together: Mask = (np.logical_and if kind == "and" else np.logical_or).reduce(masks)
        return together
    if kind == "expression":
        truth = columns.expression(str(filter["expression"]))
        return np.where(truth.null, unknown, truth.values != 0) if truth.null is not None else truth.values != 0
    if kind == "interval":
        return _within(filter, columns)
    column = _extracted(columns.texts(str(filter.get("dimension", filter.get("column")))), filter.get("extractionFn"))
    test, on_null = _KINDS[kind](filter)
    if kind == "bound" and _compares_null(filter, columns, indexed):
        on_null = None
    return _apply(column, test, on_null, unknown)


def _has_index(filter: Mapping[str, Any], columns: Columns) -> bool:
    """Whether Druid can read all of a filter from indexes, which only texts have."""
    kind = filter["type"]
    if kind == "not":
        return _has_index(filter["field"], columns)
    if kind in ("and", "or"):
        return all(_has_index(field, columns) for field in filter["fields"])
    column = filter.get("dimension", filter.get("column"))
    return kind != "expression" and column != "__time" and column not in columns.block.numbers


def _extracted(column: Texts, function: Any) -> Texts:
    """A dimension through an extraction function."""
    if function is None:
        return column
    kind = function.get("type") if isinstance(function, Mapping) else None
    if kind not in ("upper", "lower"):
        raise refusal.unsupported(f"an extraction function of type {kind}")
    change = str.upper if kind == "upper" else str.lower
    return Texts(column.codes, tuple(value if value is None else change(value) for value in column.values))


def _apply(column: Texts, test: Test, on_null: Optional[bool], unknown: bool) -> Mask:
    """on_null: what the filter says of null; None = unknown."""
    null_counts = unknown if on_null is None else on_null
    verdict = np.array([null_counts if value is None else test(value) for value in column.values], bool)
    return verdict[column.codes]


def _within(filter: Mapping[str, Any], columns: Columns) -> Mask:
    from outliers.series import parse_intervals

    time_ms = columns.time_ms
    mask = np.zeros(len(time_ms), bool)
    for start_ms, end_ms in parse_intervals(filter.get("intervals")):
        mask |= (time_ms >= start_ms) & (time_ms < end_ms)
    return mask


def _selector(filter: Mapping[str, Any]) -> tuple[Test, Optional[bool]]:
    value = filter.get("value")
    if value is None:
        return (lambda _: False), True
    text = as_text(value)
    return (lambda each: each == text), None


def _equals(filter: Mapping[str, Any]) -> tuple[Test, Optional[bool]]:
    text = as_text(filter.get("matchValue"))
    return (lambda each: each == text), None


def _null(filter: Mapping[str, Any]) -> tuple[Test, Optional[bool]]:
    return (lambda _: False), True


def _in(filter: Mapping[str, Any]) -> tuple[Test, Optional[bool]]:
    values = {None if value is None else as_text(value) for value in filter["values"]}
    return (lambda each: each in values), True if None in values else None


def _like(filter: Mapping[str, Any]) -> tuple[Test, Optional[bool]]:
    escape, parts, plain = filter.get("escape"), [], False
    for char in str(filter["pattern"]):
        if plain or (char not in "%_" and char != escape):
            parts.append(re.escape(char))
            plain = False
        elif char == escape:
            plain = True
        else:
            parts.append(".*" if char == "%" else ".")
    pattern = re.compile("".join(parts), re.DOTALL)
    return (lambda each: pattern.fullmatch(each) is not None), None


def _regex(filter: Mapping[str, Any]) -> tuple[Test, Optional[bool]]:
    try:
        pattern = re.compile(str(filter["pattern"]))
    except re.error as error:
        raise refusal.bad_value() from error
    return (lambda each: pattern.search(each) is not None), None


def _compares_null(filter: Mapping[str, Any], columns: Columns, indexed: bool) -> bool:
    """Whether a bound leaves null unknown: on numbers, and where the index of a text's range answers it."""
    if filter["dimension"] in columns.block.numbers:
        return True
    ranged = filter.get("lower") is not None and filter.get("ordering", "lexicographic") == "lexicographic"
    return indexed and ranged and filter["dimension"] in columns.block.texts


def _bound(filter: Mapping[str, Any]) -> tuple[Test, Optional[bool]]:
    key = ordering_key(filter.get("ordering", "lexicographic"))
    test = _between(
        key, filter.get("lower"), filter.get("upper"), bool(filter.get("lowerStrict")), bool(filter.get("upperStrict"))
    )
    return test, filter.get("lower") is None  # null is below everything


def _range(filter: Mapping[str, Any]) -> tuple[Test, Optional[bool]]:
    key = ordering_key("lexicographic" if str(filter.get("matchValueType")).upper() == "STRING" else "numeric")
    test = _between(
        key, filter.get("lower"), filter.get("upper"), bool(filter.get("lowerOpen")), bool(filter.get("upperOpen"))
    )
    return test, None


def _between(key: Callable[[str], Any], lower: Any, upper: Any, lower_open: bool, upper_open: bool) -> Test:
    low = None if lower is None else key(as_text(lower))
    high = None if upper is None else key(as_text(upper))

    def test(each: str) -> bool:
        value = key(each)
        above = low is None or (value > low if lower_open else value >= low)
        return bool(above and (high is None or (value < high if upper_open else value <= high)))

    return test


def ordering_key(name: Any) -> Callable[[str], Any]:
    """The sort key of texts in one of Druid's orderings; for a name that it does not know, as they stand."""
    name = str(name.get("type") if isinstance(name, Mapping) else name).lower()
    if name == "numeric":
        return _numeric_key
    if name == "strlen":
        return lambda text: (len(text), text)
    if name == "alphanumeric":
        return lambda text: [(0, int(p), "") if p.isdigit() else (1, 0, p) for p in re.findall(r"\d+|\D+", text)]
    return lambda text: text


def _numeric_key(text: str) -> tuple[bool, float, str]:
    try:
        return (True, float(text), "")
    except ValueError:
        return (False, 0.0, text)  # below every number, ordered as text


def _search(filter: Mapping[str, Any]) -> tuple[Test, Optional[bool]]:
    query = filter.get("query") or {}
    value, exact = str(query.get("value", "")), bool(query.get("caseSensitive"))
    if query.get("type") == "insensitive_contains":
        exact = False
    return (lambda each: value in each if exact else value.lower() in each.lower()), None


def as_text(value: Any) -> str:
    """A filter's value as the text that it is compared with."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else str(value)


_KINDS: dict[Any, Callable[[Mapping[str, Any]], tuple[Test, Optional[bool]]]] = {
    "selector": _selector,
    "equals": _equals,
    "null": _null,
    "in": _in,
    "like": _like,
    "regex": _regex,
    "bound": _bound,
    "range": _range,
    "search": _search,
    # evaluated on their own
    "true": _null,
    "false": _null,
    "expression": _null,
    "interval": _null,
}
_REQUIRED = {
    "selector": ("dimension",),
    "equals": ("column", "matchValueType", "matchValue"),
    "null": ("column",),
    "in": ("dimension", "values"),
    "like": ("dimension", "pattern"),
    "regex": ("dimension", "pattern"),
    "bound": ("dimension",),
    "range": ("column", "matchValueType"),
    "search": ("dimension", "query"),
    "expression": ("expression",),
    "interval": ("dimension", "intervals"),
}
