"""Which metrics count, and the traffic metrics of rb_flow with what follows from them; knows nothing of rows or HTTP.

CONTRACT §3: bytes, pkts, flows and clients are asked of Druid; rates and ratios are computed here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Optional

import numpy as np
from numpy.typing import NDArray

from outliers.series import Series

FLOW_SOURCE = "rb_flow"
FLOW_AGGREGATIONS: tuple[Mapping[str, Any], ...] = (
    {"type": "longSum", "name": "bytes", "fieldName": "sum_bytes"},
    {"type": "longSum", "name": "pkts", "fieldName": "sum_pkts"},
    {"type": "longSum", "name": "flows", "fieldName": "events"},
    {"type": "hyperUnique", "name": "clients", "fieldName": "clients"},
)

# Names that count where no query says so, and rates of them.
COUNTS = ("bytes", "pkts", "flows", "clients", "events")
# derived metric: (numerator, factor, per second, per client)
_DERIVED = {
    "bps": ("bytes", 8.0, True, False),
    "pps": ("pkts", 1.0, True, False),
    "fps": ("flows", 1.0, True, False),
    "bytes_per_client": ("bytes", 1.0, False, True),
    "flows_per_client": ("flows", 1.0, False, True),
    "bits_per_sec_per_client": ("bytes", 8.0, True, True),
    "flows_per_sec_per_client": ("flows", 1.0, True, True),
}
RATES = tuple(name for name, (_, _, _, per_client) in _DERIVED.items() if not per_client)
DERIVED = tuple(_DERIVED)
TRAFFIC = (*COUNTS[:4], *DERIVED)  # the eleven metrics of a flow sensor

_COUNTING_TYPES = {
    "count",
    "longsum",
    "hyperunique",
    "cardinality",
    "thetasketch",
    "hllsketchbuild",
    "hllsketchmerge",
    "distinctcount",
}
_SAME_AS_FIELD = {
    "fieldaccess",
    "finalizingfieldaccess",
    "hyperuniquecardinality",
    "thetasketchestimate",
    "hllsketchestimate",
    "hllsketchestimatewithbounds",
}


def with_derived(series: Series, seconds: NDArray[np.float64], metrics: Iterable[str] = DERIVED) -> Series:
    """Append those of `metrics` that follow from columns of the series and are not in it yet.

    seconds: float64 [T], each bucket's own. A rate of an empty bucket (count 0) is 0; what is divided by no client
    is missing.
    """
    names, columns = list(series.metrics), []
    for metric in metrics:
        if metric in names or metric not in _DERIVED:
            continue
        numerator, factor, per_second, per_client = _DERIVED[metric]
        if numerator not in series.metrics or (per_client and "clients" not in series.metrics):
            continue
        column = series.values[:, series.column(numerator)] * factor
        if per_second:
            column = column / seconds
        if per_client:
            clients = series.values[:, series.column("clients")]
            column = column / np.where(clients > 0, clients, np.nan)
        names.append(metric)
        columns.append(column)
    if not columns:
        return series
    values = np.column_stack([series.values, *columns])
    return Series(series.timestamps, values, tuple(names), series.granularity, series.step_s)


def counting_of(
    query: Optional[Mapping[str, Any]], metrics: tuple[str, ...]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Two masks, bool [M]: the metric counts (0 where nothing is); it is a rate or sum of such counts.

    The query's own definitions decide; for names that it does not define, and for expressions, the usual names.
    """
    kinds = dict.fromkeys(COUNTS, "count") | dict.fromkeys(RATES, "rate")
    query = query or {}
    for aggregation in query.get("aggregations") or ():
        name, kind = _aggregation_kind(aggregation)
        if name is not None:
            kinds[name] = kind
    for post in query.get("postAggregations") or ():
        if isinstance(post, Mapping) and str(post.get("type")).lower() != "expression":
            kinds[str(post.get("name"))] = _post_kind(post, kinds)
    of = [kinds.get(metric) for metric in metrics]
    return np.array([k == "count" for k in of], bool), np.array([k == "rate" for k in of], bool)


def _aggregation_kind(aggregation: Any) -> tuple[Optional[str], str]:
    name: Optional[str] = None
    while isinstance(aggregation, Mapping):
        name = name or aggregation.get("name")
        kind = str(aggregation.get("type")).lower()
        if kind != "filtered":
            return name, "count" if kind in _COUNTING_TYPES else "other"
        aggregation = aggregation.get("aggregator")
    return name, "other"


def _post_kind(post: Any, kinds: Mapping[str, str]) -> str:
    """count, rate (a sum of counts or its multiple), constant, or other."""
    if not isinstance(post, Mapping):
        return "other"
    kind = str(post.get("type")).lower()
    if kind == "constant":
        return "constant"
    if kind in _SAME_AS_FIELD:
        field = post.get("field", post.get("fieldName"))
        return _post_kind(field, kinds) if isinstance(field, Mapping) else kinds.get(str(field), "other")
    fields = post.get("fields")
    if kind != "arithmetic" or not isinstance(fields, list) or not fields:
        return "other"
    parts = [_post_kind(field, kinds) for field in fields]
    sums = [part in ("count", "rate") for part in parts]
    constants = [part == "constant" for part in parts]
    operator = post.get("fn")
    if all(constants):
        return "constant"
    if operator in ("+", "-") and all(sums):
        return "rate"
    if operator == "*" and sum(sums) == 1 and sum(constants) == len(parts) - 1:
        return "rate"
    divisors = [field.get("value") for field in fields[1:] if isinstance(field, Mapping)]
    if operator in ("/", "quotient") and sums[0] and all(constants[1:]) and 0 not in divisors:
        return "rate"
    return "other"
