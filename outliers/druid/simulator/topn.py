"""The order of a topN's entries, as Druid's TopNMetricSpec makes it; knows nothing of rows or time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cmp_to_key
from typing import Any, NamedTuple, Optional

from outliers.druid.simulator import refusal


class Rank(NamedTuple):
    """metric: the number to order by, None = the dimension's value itself; inverted: least first."""

    metric: Optional[str]
    inverted: bool
    numeric: bool = False
    after: Optional[str] = None  # `previousStop`: only entries beyond this value


def rank_of(spec: Any, names: set[str]) -> Rank:
    """Read a topN's `metric`."""
    if isinstance(spec, str):
        spec = {"type": "numeric", "metric": spec}
    if not isinstance(spec, Mapping):
        raise refusal.bad_value()
    kind = spec.get("type")
    if kind == "inverted":
        inner = rank_of(spec.get("metric"), names)
        return inner._replace(inverted=not inner.inverted)
    if kind == "numeric":
        if spec.get("metric") not in names:
            raise refusal.bad_value()
        return Rank(str(spec["metric"]), False)
    if kind in ("dimension", "lexicographic", "alphaNumeric"):
        stop = spec.get("previousStop")
        return Rank(None, False, str(spec.get("ordering")).lower() == "numeric", None if stop is None else str(stop))
    raise refusal.unknown_type()


def ranked(entries: Sequence[dict[str, Any]], name: str, rank: Rank) -> list[dict[str, Any]]:
    """Entries in Druid's order; ties by the dimension's value."""
    if rank.metric is None:
        ordered = sorted(entries, key=lambda entry: _text_key(entry[name], rank.numeric), reverse=rank.inverted)
        if rank.after is None:
            return ordered
        stop = _text_key(rank.after, rank.numeric)
        return [e for e in ordered if (_text_key(e[name], rank.numeric) > stop) != rank.inverted]
    metric = rank.metric

    def compare(a: dict[str, Any], b: dict[str, Any]) -> int:
        x, y = a[metric], b[metric]
        if x != y:
            if x is None or y is None:  # null is least, in either order last
                return 1 if x is None else -1
            return -1 if (x > y) != rank.inverted else 1
        return -1 if _text_key(a[name], False) < _text_key(b[name], False) else 1

    return sorted(entries, key=cmp_to_key(compare))


def _text_key(value: Optional[str], numeric: bool) -> Any:
    if numeric:
        try:
            return (1, float(value or ""), "")
        except ValueError:
            return (0, 0.0, value or "")
    return (value is not None, value or "")
