"""The order of a topN's entries, as Druid's TopNMetricSpec makes it; knows nothing of rows or time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cmp_to_key
from typing import Any, NamedTuple, Optional

from outliers.druid.simulator import refusal
from outliers.druid.simulator.aggregate import read
from outliers.druid.simulator.filters import ordering_key


class Rank(NamedTuple):
    """metric: the number to order by, None = the dimension's value itself; inverted: least first."""

    metric: Optional[str]
    inverted: bool
    ordering: str = "lexicographic"
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
        ordering = "alphanumeric" if kind == "alphaNumeric" else str(spec.get("ordering") or "lexicographic").lower()
        return Rank(None, False, ordering, None if stop is None else str(stop))
    raise refusal.bad_value()


def ranked(entries: Sequence[dict[str, Any]], name: str, rank: Rank) -> list[dict[str, Any]]:
    """Entries in Druid's order; ties by the dimension's value."""
    if rank.metric is None:
        key = ordering_key(rank.ordering)
        known = [entry for entry in entries if entry[name] is not None]
        ordered = sorted(known, key=lambda entry: key(entry[name]), reverse=rank.inverted)
        if rank.after is not None:
            stop = key(rank.after)
            return [e for e in ordered if (key(e[name]) < stop if rank.inverted else key(e[name]) > stop)]
        return [*(entry for entry in entries if entry[name] is None), *ordered]  # null is first, in either direction
    metric = rank.metric

    def compare(a: dict[str, Any], b: dict[str, Any]) -> int:
        x, y = read(a[metric]), read(b[metric])
        if x is None or y is None:  # null is least, in either order last
            if x is not None or y is not None:
                return 1 if x is None else -1
        elif _number_key(x) != _number_key(y):
            return -1 if (_number_key(x) > _number_key(y)) != rank.inverted else 1
        return -1 if _text_key(a[name]) < _text_key(b[name]) else 1

    return sorted(entries, key=cmp_to_key(compare))


def _number_key(value: float) -> tuple[bool, float]:
    """NaN is above everything, and like itself."""
    return (True, 0.0) if value != value else (False, value)


def _text_key(value: Optional[str]) -> tuple[bool, str]:
    return (value is not None, value or "")
