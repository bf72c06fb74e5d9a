"""Queries as values: shapes, filters in one form, what a model adds, lead-in, context."""

from __future__ import annotations

import copy
from typing import Any, Optional

import pytest

from outliers.druid.query import (
    bound,
    canonical_filter,
    checked,
    conflicts,
    data_source_of,
    data_sources_of,
    history_key,
    lead_in_query,
    sensor_filter,
    sensor_of,
    top_sensors_query,
    training_query,
    with_context,
    with_model_needs,
)
from outliers.druid.traffic import FLOW_AGGREGATIONS
from outliers.errors import InvalidRequest, Unservable
from outliers.series import Granularity, lead_in_s, parse_intervals

MADRID = {"type": "selector", "dimension": "sensor_name", "value": "edge-madrid"}
HTTPS = {"type": "selector", "dimension": "application_id_name", "value": "https"}
QUERY: dict[str, Any] = {
    "queryType": "timeseries",
    "dataSource": "rb_flow",
    "granularity": "minute",
    "intervals": "2025-10-25T10:00:00Z/2025-10-25T11:00:00Z",
    "filter": MADRID,
    "aggregations": [{"type": "longSum", "name": "bytes", "fieldName": "sum_bytes"}],
}


@pytest.mark.parametrize(
    ("filter", "sensor"),
    [
        (MADRID, "edge-madrid"),
        ({"type": "equals", "column": "sensor_name", "matchValueType": "STRING", "matchValue": "a b"}, "a b"),
        ({"type": "in", "dimension": "sensor_name", "values": ["x"]}, "x"),
        ({"type": "and", "fields": [MADRID]}, "edge-madrid"),
        ({"type": "and", "fields": [{"type": "and", "fields": [MADRID]}, {"type": "true"}]}, "edge-madrid"),
        ({"type": "and", "fields": [MADRID, MADRID]}, "edge-madrid"),
        (None, None),
        ({"type": "and", "fields": [MADRID, HTTPS]}, None),  # a part of the sensor's traffic
        ({"type": "or", "fields": [MADRID, HTTPS]}, None),
        ({"type": "not", "field": MADRID}, None),
        ({"type": "in", "dimension": "sensor_name", "values": ["x", "y"]}, None),
        ({"type": "selector", "dimension": "sensor_name", "value": None}, None),
        ({"type": "selector", "dimension": "sensor_name", "value": ""}, None),
        ({**MADRID, "extractionFn": {"type": "lower"}}, None),
        ({"type": "selector", "dimension": "namespace", "value": "edge-madrid"}, None),
        ({"type": "like", "dimension": "sensor_name", "pattern": "edge-madrid"}, None),
    ],
)
def test_sensor_is_what_the_filter_selects_and_nothing_else(filter: Any, sensor: Optional[str]) -> None:
    assert sensor_of({**QUERY, "filter": filter}) == sensor


def test_a_computed_column_named_as_the_dimension_is_no_sensor() -> None:
    virtual = [{"type": "expression", "name": "sensor_name", "expression": "'edge-madrid'"}]
    assert sensor_of({**QUERY, "virtualColumns": virtual}) is None


def test_filters_that_select_the_same_have_one_form() -> None:
    equals = {"type": "equals", "column": "application_id_name", "matchValueType": "STRING", "matchValue": "https"}
    pairs = [
        ({"type": "and", "fields": [MADRID, HTTPS]}, {"type": "AND", "fields": [equals, MADRID, HTTPS]}),
        (
            {"type": "and", "fields": [MADRID, {"type": "and", "fields": [HTTPS]}]},
            {"type": "and", "fields": [HTTPS, MADRID]},
        ),
        (
            {"type": "in", "dimension": "d", "values": ["b", "a", "b"]},
            {"type": "in", "dimension": "d", "values": ["a", "b"]},
        ),
        ({"type": "not", "field": {"type": "not", "field": HTTPS}}, equals),
        ({"type": "selector", "dimension": "d", "value": 5}, {"type": "selector", "dimension": "d", "value": "5"}),
        ({"type": "null", "column": "d"}, {"type": "selector", "dimension": "d", "value": None}),
        ({"type": "true"}, None),
        ({"type": "or", "fields": [HTTPS, {"type": "true"}]}, None),
    ]
    for one, other in pairs:
        assert canonical_filter(one) == canonical_filter(other)
    assert canonical_filter({"type": "or", "fields": [MADRID, HTTPS]}) != canonical_filter(
        {"type": "and", "fields": [MADRID, HTTPS]}
    )


@pytest.mark.parametrize("query", [None, [], "timeseries", 5, {1: 2}])
def test_a_query_that_is_no_object_is_malformed(query: Any) -> None:
    with pytest.raises(InvalidRequest, match="object"):
        checked(query)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"queryType": "topN"}, "topN"),
        ({"queryType": None}, "queryType"),
        ({"dataSource": None}, "data source"),
        ({"dataSource": {"type": "query", "query": {}}}, "table"),
        ({"dataSource": {"type": "union", "dataSources": ["a", {"type": "inline"}]}}, "table"),
        ({"intervals": None}, "interval"),
        ({"intervals": "yesterday"}, "yesterday"),
        ({"aggregations": {}}, "aggregations"),
        ({"aggregations": ["bytes"]}, "aggregations"),
        ({"aggregations": [{"type": "count"}]}, "no name"),
        ({"postAggregations": [{"type": "constant", "name": "bytes"}]}, "two aggregations"),
        ({"filter": "edge-madrid"}, "filter"),
        ({"context": []}, "context"),
    ],
)
def test_a_query_that_druid_would_refuse_is_unservable_and_says_why(change: dict[str, Any], told: str) -> None:
    with pytest.raises(Unservable, match=told):
        checked({**QUERY, **change})


def test_a_query_nested_too_deeply_is_unservable_at_any_place() -> None:
    filter: dict[str, Any] = MADRID
    for _ in range(200):
        filter = {"type": "not", "field": filter}
    with pytest.raises(Unservable, match="levels deep"):
        checked({**QUERY, "filter": filter})


def test_many_aggregations_are_checked_in_no_time() -> None:
    many = [{"type": "count", "name": f"n{i}"} for i in range(50_000)]
    assert len(checked({**QUERY, "aggregations": many})["aggregations"]) == 50_000
    with pytest.raises(Unservable, match="two aggregations are named 'n7'"):
        checked({**QUERY, "aggregations": [*many, {"type": "count", "name": "n7"}]})


def test_a_good_query_comes_back_as_it_is() -> None:
    assert checked(QUERY) == QUERY
    assert checked(QUERY) is not QUERY


def test_data_sources_are_the_tables_that_are_read() -> None:
    assert data_source_of(QUERY) == "rb_flow"
    assert data_source_of({"dataSource": {"type": "table", "name": "t"}}) == "t"
    union = {"dataSource": {"type": "union", "dataSources": ["a", {"type": "table", "name": "b"}]}}
    assert data_sources_of(union) == ("a", "b")
    assert data_source_of(union) is None


def test_what_a_model_needs_is_added_by_name_and_the_callers_own_is_not_touched() -> None:
    query = copy.deepcopy(QUERY)
    query["postAggregations"] = [{"type": "constant", "name": "flows", "value": 1}]
    before = copy.deepcopy(query)
    added = with_model_needs(query, FLOW_AGGREGATIONS, [{"type": "constant", "name": "bytes", "value": 2}])
    assert query == before
    assert [a["name"] for a in added["aggregations"]] == ["bytes", "pkts", "clients"]
    assert added["aggregations"][0] == QUERY["aggregations"][0]
    assert added["postAggregations"] == query["postAggregations"]
    added["aggregations"][1]["name"] = "changed"
    assert FLOW_AGGREGATIONS[1]["name"] == "pkts"


def test_a_name_used_for_something_else_conflicts_with_a_model() -> None:
    same = {
        **QUERY,
        "aggregations": [{"type": "LONGSUM", "name": "bytes", "fieldName": "sum_bytes", "expression": None}],
    }
    other = {**QUERY, "aggregations": [{"type": "longSum", "name": "bytes", "fieldName": "sum_pkts"}]}
    post = {**QUERY, "aggregations": [], "postAggregations": [{"type": "constant", "name": "bytes", "value": 1}]}
    assert [conflicts(q, FLOW_AGGREGATIONS) for q in (same, other, post)] == [[], ["bytes"], ["bytes"]]


def test_buckets_are_counted_before_druid_is_asked() -> None:
    assert bound(QUERY) == 60
    assert bound({**QUERY, "granularity": "second"}) == 3600
    assert bound({**QUERY, "intervals": "0001-01-01/9999-12-31"}) > 10**9
    apart = ["2025-10-25T10:00Z/PT5M", "2025-10-26T10:00Z/PT5M"]
    assert bound({**QUERY, "intervals": apart}) == 1445  # one grid from the first to the last


@pytest.mark.parametrize(
    ("step", "length"),
    [
        ("PT1S", 1440),
        ("PT1M", 86400),
        ("PT5M", 5 * 86400),
        ("PT15M", 15 * 86400),
        ("PT1H", 28 * 86400),
        ("PT8H", 28 * 86400),
    ],
)
def test_lead_in_is_so_many_buckets_and_no_more_than_four_weeks(step: str, length: int) -> None:
    granularity = Granularity.parse({"type": "period", "period": step})
    assert lead_in_s(granularity.step_s) == length


def test_lead_in_query_is_the_callers_over_the_time_before() -> None:
    query = {**QUERY, "limit": 5, "descending": True, "context": {"grandTotal": True, "skipEmptyBuckets": True}}
    query["intervals"] = ["2025-10-25T12:00:00Z/PT1H", "2025-10-25T10:00:30Z/PT1H"]
    before = copy.deepcopy(query)
    lead = lead_in_query(query, Granularity.parse("minute"))
    assert lead is not None
    assert query == before
    assert lead.text == "P1D"
    assert lead.query["intervals"] == ["2025-10-24T10:00:00.000Z/2025-10-25T10:00:00.000Z"]
    assert lead.query["context"] == {"skipEmptyBuckets": True}
    assert not {"limit", "descending", "grandTotal"} & set(lead.query)
    assert lead.query["aggregations"] == QUERY["aggregations"]


def test_lead_in_is_none_where_it_is_not_wanted_or_the_query_is_long_enough() -> None:
    minute = Granularity.parse("minute")
    assert lead_in_query(QUERY, minute, "none") is None
    assert lead_in_query({**QUERY, "intervals": "2025-10-25/2025-10-26"}, minute) is None
    assert lead_in_query({**QUERY, "intervals": "2025-10-25/2025-10-25"}, minute) is None
    assert lead_in_query(QUERY, Granularity.parse("month")) is None
    assert lead_in_query({**QUERY, "intervals": "2025-10-25T00:00Z/PT23H59M"}, minute) is not None


def test_lead_in_given_as_a_period_is_taken_literally_within_the_bound() -> None:
    minute = Granularity.parse("minute")
    lead = lead_in_query(QUERY, minute, "pt2h")
    assert lead is not None
    assert (lead.text, lead.end_s - lead.start_s) == ("PT2H", 7200)
    with pytest.raises(Unservable, match="at most 50000"):
        lead_in_query(QUERY, minute, "P1Y", points=50000)
    with pytest.raises(InvalidRequest, match="lead_in"):
        lead_in_query(QUERY, minute, "yesterday")


def test_lead_in_keeps_to_the_calendar_grid() -> None:
    madrid = Granularity.parse({"type": "period", "period": "P1D", "timeZone": "Europe/Madrid"})
    lead = lead_in_query({**QUERY, "intervals": "2025-10-29T12:00Z/P2D"}, madrid)
    assert lead is not None
    assert lead.text == "P28D"
    starts = madrid.starts(lead.start_s, lead.end_s)
    assert starts[0] == lead.start_s
    assert madrid.ends(starts)[-1] == lead.end_s
    assert lead.query["intervals"][0].endswith("2025-10-28T23:00:00.000Z")


def test_history_is_the_same_for_queries_that_differ_in_when_and_how_only() -> None:
    other = {**QUERY, "intervals": "2025-10-26/2025-10-27", "descending": True, "context": {"timeout": 5}, "limit": 1}
    other["filter"] = {"type": "in", "dimension": "sensor_name", "values": ["edge-madrid"]}
    assert history_key(QUERY) == history_key(other)
    assert history_key(QUERY) != history_key({**QUERY, "filter": HTTPS})
    assert history_key(QUERY) != history_key({**QUERY, "context": {"skipEmptyBuckets": True}})


@pytest.mark.parametrize(
    ("own", "sent"),
    [(None, 2000), (0, 2000), (500, 500), (60000, 2000), (6e4, 2000), ("60000", 2000), ("soon", "soon"), (-5, -5)],
)
def test_context_caps_the_time_out_and_asks_for_uncovered_time(own: Any, sent: Any) -> None:
    query = QUERY if own is None else {**QUERY, "context": {"timeout": own, "priority": 7}}
    result = with_context(query, 2.0)
    assert result["context"]["timeout"] == sent
    assert result["context"]["uncoveredIntervalsLimit"] > 0
    assert ("priority" in result["context"]) == (own is not None)
    assert "context" not in QUERY


def test_queries_of_our_own_are_what_druid_reads() -> None:
    query = training_query("rb_flow", sensor_filter("x"), FLOW_AGGREGATIONS, "PT5M", 1_700_000_000, 1_700_086_400)
    assert checked(query) == query
    assert query["granularity"] == {"type": "period", "period": "PT5M"}
    assert sensor_of(query) == "x"
    assert len(parse_intervals(query["intervals"])) == 1
    assert "filter" not in training_query("rb_flow", None, FLOW_AGGREGATIONS, "hour", 0, 3600)
    top = top_sensors_query("rb_flow", 0, 3600, 10)
    assert (top["metric"], top["threshold"], top["dimension"]) == ("events", 10, "sensor_name")
