"""Queries as values: a dict goes in, a new dict or a fact comes out; knows nothing of HTTP, rows or models.

A query that is no object is malformed (InvalidRequest); one that Druid would refuse cannot be served (Unservable).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Optional, Union

import orjson

from outliers.druid.response import names_of, output_name
from outliers.errors import InvalidRequest, Unservable
from outliers.series import Granularity, Interval, lead_in_s, parse_intervals
from outliers.times import Period, instant_text, period_text

Query = Mapping[str, Any]
Filter = Optional[Mapping[str, Any]]

SENSOR_DIMENSION = "sensor_name"
DEPTH = 100  # levels of objects and lists in a query
UNCOVERED_LIMIT = 50  # intervals without a segment that Druid may name in its header
_LISTS = ("aggregations", "postAggregations", "virtualColumns")


class LeadIn(NamedTuple):
    """What is asked before the asked interval. text: its length as ISO period; [start_s, end_s) lies on the grid."""

    query: dict[str, Any]
    text: str
    start_s: int
    end_s: int


def checked(query: Any) -> dict[str, Any]:
    """A shallow copy of a timeseries query whose shape is right.

    InvalidRequest: no object. Unservable: another type of query, or lists and intervals that Druid would refuse.
    """
    if not isinstance(query, Mapping) or not all(isinstance(key, str) for key in query):
        raise InvalidRequest("the query is not a JSON object")
    if _is_deep(query):
        raise Unservable(f"the query is nested more than {DEPTH} levels deep")
    kind = query.get("queryType")
    if kind != "timeseries":
        named = f"{kind!r}" if isinstance(kind, str) else "without a queryType"
        raise Unservable(f"only queries of queryType 'timeseries' are served, not one {named}".replace("one '", "'"))
    for key in _LISTS:
        value = query.get(key)
        if value is not None and not (isinstance(value, list) and all(isinstance(v, Mapping) for v in value)):
            raise Unservable(f"the query's {key} are not a list of objects")
    for key in ("filter", "context"):
        if query.get(key) is not None and not isinstance(query[key], Mapping):
            raise Unservable(f"the query's {key} is not an object")
    for item in [*(query.get("aggregations") or ()), *(query.get("postAggregations") or ())]:
        if output_name(item) is None:
            raise Unservable(f"an aggregation of type {item.get('type')!r} has no name")
    repeated = [name for name, times in Counter(names_of(query)).items() if times > 1]
    if repeated:
        raise Unservable(f"two aggregations are named {repeated[0]!r}")
    data_sources_of(query)
    parse_intervals(query.get("intervals"))
    return dict(query)


def _is_deep(query: Query) -> bool:
    """Whether what walks the query level by level would go too deep."""
    level: list[Any] = [query]
    for _ in range(DEPTH):
        inner = [each if isinstance(each, list) else each.values() for each in level]
        level = [each for values in inner for each in values if isinstance(each, (dict, list))]
        if not level:
            return False
    return True


def data_sources_of(query: Query) -> tuple[str, ...]:
    """Names of the tables that a query reads; Unservable for anything but a table or a union of tables."""
    source = query.get("dataSource")
    if isinstance(source, str) and source:
        return (source,)
    kind = str(source.get("type")).lower() if isinstance(source, Mapping) else None
    if isinstance(source, Mapping) and kind == "table" and isinstance(source.get("name"), str):
        return (source["name"],)
    if isinstance(source, Mapping) and kind == "union" and isinstance(source.get("dataSources"), list):
        return tuple(name for part in source["dataSources"] for name in data_sources_of({"dataSource": part}))
    if source is None:
        raise Unservable("the query names no data source")
    raise Unservable("only a table, or a union of tables, can be the data source")


def data_source_of(query: Query) -> Optional[str]:
    """The one table that a query reads, None for a union of several."""
    sources = set(data_sources_of(query))
    return sources.pop() if len(sources) == 1 else None


def canonical_filter(filter: Any) -> Filter:
    """One form for filters that select the same: None (everything), selectors, sorted `and`, `or`, `in`.

    `equals` of text becomes `selector`, a single-valued `in`, `and` or `or` what it holds; nested ones are joined,
    repetitions dropped, fields sorted. What has no second form is kept as it is.
    """
    if filter is None:
        return None
    if not isinstance(filter, Mapping):
        raise Unservable("the query's filter is not an object")
    kind = str(filter.get("type")).lower()
    if kind == "true":
        return None
    if kind in ("and", "or"):
        return _canonical_group(kind, filter)
    if kind == "not" and isinstance(filter.get("field"), Mapping):
        inner = canonical_filter(filter["field"])
        if inner is not None and inner.get("type") == "not":
            return canonical_filter(inner["field"])
        return {"type": "not", "field": inner if inner is not None else {"type": "true"}}
    if filter.get("extractionFn") is not None or filter.get("filterTuning") is not None:
        return dict(filter)
    if kind == "selector":
        return _selector(filter.get("dimension"), filter.get("value"))
    if kind == "equals" and str(filter.get("matchValueType", "STRING")).upper() == "STRING":
        return _selector(filter.get("column"), filter.get("matchValue"))
    if kind == "null":
        return _selector(filter.get("column"), None)
    if kind == "in" and isinstance(filter.get("values"), list):
        values = sorted({_as_text(value) for value in filter["values"]}, key=lambda v: (v is not None, v or ""))
        if len(values) == 1:
            return _selector(filter.get("dimension"), values[0])
        return {"type": "in", "dimension": filter.get("dimension"), "values": values}
    return dict(filter)


def _selector(dimension: Any, value: Any) -> dict[str, Any]:
    return {"type": "selector", "dimension": dimension, "value": _as_text(value)}


def _as_text(value: Any) -> Optional[str]:
    """Dimensions are text: Druid reads a number in a filter as its text, and null and "" as they are."""
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value)


def _canonical_group(kind: str, filter: Mapping[str, Any]) -> Filter:
    fields: list[Mapping[str, Any]] = []
    for field in filter.get("fields") or ():
        inner = canonical_filter(field)
        if inner is None:
            if kind == "or":
                return None
        elif inner.get("type") == kind:
            fields.extend(inner["fields"])
        else:
            fields.append(inner)
    by_text = {canonical_text(field): field for field in fields}
    unique = [by_text[text] for text in sorted(by_text)]
    if len(unique) == 1:
        return unique[0]
    return {"type": kind, "fields": unique} if unique else None


def canonical_text(value: Any) -> str:
    """JSON text with sorted keys: equal for equal values."""
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()
    except TypeError:  # an integer of more than 64 bits, half a character: what only Python writes
        return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def sensor_of(query: Query) -> Optional[str]:
    """The sensor that the query's filter selects *and nothing else*; None where it selects more or less."""
    columns = query.get("virtualColumns") or ()
    if any(isinstance(column, Mapping) and column.get("name") == SENSOR_DIMENSION for column in columns):
        return None  # the name stands for something computed
    found = canonical_filter(query.get("filter"))
    if found is None or found.get("type") != "selector" or found.get("extractionFn") is not None:
        return None
    value = found.get("value")
    return value if found.get("dimension") == SENSOR_DIMENSION and isinstance(value, str) and value else None


def sensor_filter(sensor: str) -> dict[str, Any]:
    """The filter of one sensor's whole traffic."""
    return _selector(SENSOR_DIMENSION, sensor)


def with_model_needs(
    query: Query,
    aggregations: Iterable[Mapping[str, Any]],
    post_aggregations: Iterable[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """The query with what a model needs added under names that it does not use; the caller's own are not touched."""
    taken = set(names_of(query))
    result = dict(query)
    for key, wanted in (("aggregations", aggregations), ("postAggregations", post_aggregations)):
        added = [dict(item) for item in wanted if output_name(item) not in taken]
        if added:
            result[key] = [*(query.get(key) or ()), *added]
    return result


def conflicts(query: Query, aggregations: Iterable[Mapping[str, Any]]) -> list[str]:
    """Names that the query uses for something else than `aggregations` do: such a model cannot read its rows."""
    own = {output_name(a): a for a in query.get("aggregations") or ()}
    posts = {output_name(p) for p in query.get("postAggregations") or ()}

    def differs(name: Optional[str], wanted: Mapping[str, Any]) -> bool:
        asked = own.get(name)
        return asked is not None and asked != wanted and _definition(asked) != _definition(wanted)

    named = [(output_name(a), a) for a in aggregations]
    return [str(name) for name, wanted in named if name in posts or differs(name, wanted)]


def _definition(aggregation: Mapping[str, Any]) -> str:
    fields = {k: v for k, v in aggregation.items() if k != "name" and v is not None and v is not False}
    if isinstance(fields.get("type"), str):
        fields["type"] = fields["type"].lower()
    if isinstance(fields.get("aggregator"), Mapping):
        fields["aggregator"] = _definition(fields["aggregator"])
    if isinstance(fields.get("filter"), Mapping):
        fields["filter"] = canonical_filter(fields["filter"])
    return canonical_text(fields)


def bound(query: Query) -> int:
    """Buckets of the grid from the first to the last asked one, at most two too many; before Druid is asked.

    Several intervals span one grid, so the time between them counts too.
    """
    granularity = Granularity.parse(query.get("granularity"))
    return granularity.count(parse_intervals(query.get("intervals")))


def lead_in_query(
    query: Query, granularity: Granularity, lead_in: str = "auto", points: Optional[int] = None
) -> Optional[LeadIn]:
    """The query for what lies before the asked interval, CONTRACT §3; None where nothing is to be asked.

    lead_in: `auto`, `none` or an ISO period, taken literally.
    points: bound on buckets, asked and lead-in together; Unservable past it, so that the caller can give it up.
    """
    intervals = parse_intervals(query.get("intervals"))
    if lead_in.lower() == "none" or not intervals:
        return None
    end_s = int(granularity.floor(intervals[0].start_ms // 1000)[0])
    span_s = (intervals[-1].end_ms - intervals[0].start_ms) / 1000
    if lead_in.lower() == "auto":
        length_s = lead_in_s(granularity.step_s)
        text = period_text(length_s)
        if span_s >= length_s:
            return None
        start_s = end_s - length_s
    else:
        try:
            period = Period.parse(lead_in)
        except ValueError as error:
            raise InvalidRequest(f"lead_in: {error}") from error
        text, start_s = str(period), period.add(end_s * 1000, -1, granularity.zone) // 1000
    # Only whole buckets: a part of one would be judged as a drop.
    start_s = int(granularity.ends(granularity.floor(start_s - 1))[0])
    if start_s >= end_s:
        return None
    buckets = granularity.count([Interval(start_s * 1000, intervals[-1].end_ms)])
    if points is not None and buckets > points:
        raise Unservable(f"with a lead-in of {text} the query has {buckets} buckets: at most {points} are served")
    asked = over(query, start_s, end_s)
    for key in ("limit", "grandTotal", "descending"):
        asked.pop(key, None)
    context = {k: v for k, v in (query.get("context") or {}).items() if k not in ("grandTotal", "queryId")}
    if context or "context" in asked:
        asked["context"] = context
    return LeadIn(asked, text, start_s, end_s)


def over(query: Query, start_s: int, end_s: int) -> dict[str, Any]:
    """The same query over another interval."""
    return {**query, "intervals": [str(Interval(start_s * 1000, end_s * 1000))]}


def history_key(query: Query) -> str:
    """What a query asks without when and how: equal for queries whose closed buckets are the same."""
    left_out = ("intervals", "context", "limit", "grandTotal", "descending")
    parts = {key: value for key, value in query.items() if key not in left_out}
    parts["filter"] = canonical_filter(query.get("filter"))
    parts["skip"] = bool((query.get("context") or {}).get("skipEmptyBuckets"))
    return canonical_text(parts)


def with_context(query: Query, timeout_s: float) -> dict[str, Any]:
    """The query with our time-out as the cap of its own, and with the header that names uncovered time asked for."""
    context = dict(query.get("context") or {})
    cap_ms, own = max(1, int(timeout_s * 1000)), context.get("timeout")
    own_ms = _whole(own)
    if own is None or (own_ms is not None and (own_ms == 0 or own_ms > cap_ms)):
        context["timeout"] = cap_ms  # 0 is none at all; what is no number stays, for Druid to refuse
    limit = _whole(context.get("uncoveredIntervalsLimit"))
    if limit is None or limit < UNCOVERED_LIMIT:
        context["uncoveredIntervalsLimit"] = UNCOVERED_LIMIT
    return {**query, "context": context}


def _whole(value: Any) -> Optional[int]:
    try:
        return int(value) if isinstance(value, (int, float, str)) and not isinstance(value, bool) else None
    except (ValueError, OverflowError):
        return None


def training_query(
    data_source: str,
    filter: Filter,
    aggregations: Sequence[Mapping[str, Any]],
    granularity: Union[str, Mapping[str, Any]],
    start_s: int,
    end_s: int,
    post_aggregations: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """A timeseries query over [start_s, end_s); granularity as Druid takes it, or an ISO period."""
    if isinstance(granularity, str) and granularity[:1] == "P":
        granularity = {"type": "period", "period": granularity}
    query: dict[str, Any] = {
        "queryType": "timeseries",
        "dataSource": data_source,
        "granularity": granularity,
        "intervals": [str(Interval(start_s * 1000, end_s * 1000))],
        "aggregations": [dict(aggregation) for aggregation in aggregations],
    }
    if post_aggregations:
        query["postAggregations"] = [dict(post) for post in post_aggregations]
    if filter is not None:
        query["filter"] = dict(filter)
    return query


def time_boundary_query(data_source: str, filter: Filter = None, bound: Optional[str] = None) -> dict[str, Any]:
    """Ask for the first and last event's time; bound: `minTime` or `maxTime` for one of them."""
    query: dict[str, Any] = {"queryType": "timeBoundary", "dataSource": data_source}
    if bound is not None:
        query["bound"] = bound
    if filter is not None:
        query["filter"] = dict(filter)
    return query


def top_sensors_query(
    data_source: str,
    start_s: int,
    end_s: int,
    limit: int,
    *,
    dimension: str = SENSOR_DIMENSION,
    metric: Optional[Mapping[str, Any]] = None,
    filter: Filter = None,
) -> dict[str, Any]:
    """Ask for the values of a dimension with the most events (or the most of `metric`, an aggregation)."""
    aggregation = dict(metric or {"type": "longSum", "name": "events", "fieldName": "events"})
    query: dict[str, Any] = {
        "queryType": "topN",
        "dataSource": data_source,
        "granularity": "all",
        "intervals": [str(Interval(start_s * 1000, end_s * 1000))],
        "dimension": dimension,
        "metric": aggregation["name"],
        "threshold": limit,
        "aggregations": [aggregation],
    }
    if filter is not None:
        query["filter"] = dict(filter)
    return query


def describe(start_s: int, end_s: int) -> str:
    """An interval for a sentence: `2025-10-25T10:00:00.000Z to 2025-10-25T11:00:00.000Z`."""
    return f"{instant_text(start_s * 1000)} to {instant_text(end_s * 1000)}"
