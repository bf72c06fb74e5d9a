"""What is asked of Druid and what its faults become: lead-in, history, coalescing, caches, bounds, holes."""

from __future__ import annotations

import threading
import time

import pytest

from outliers.druid.simulator import Simulator
from outliers.errors import DruidFailed, DruidTimeout, DruidUnreachable, Unservable
from tests.web.asking import NOW, SENSOR, Asking, config_for, flow_query
from tests.web.recorded import Recorded, cases

CASES = cases()
HOUR = ("2026-05-28T10:00:00Z", "2026-05-28T11:00:00Z")


def asked(simulator: Simulator, before: int) -> list[tuple[str, str]]:
    return [tuple(q["intervals"][0].split("/")) for q in simulator.asked[before:] if q["queryType"] == "timeseries"]


# --- which model --------------------------------------------------------------------------------------------------


def test_the_sensors_model_answers_its_sensor(of_simulator: Asking):
    answer = of_simulator(query=flow_query(*HOUR))
    assert (answer["model"]["name"], answer["model"]["kind"]) == (SENSOR, "autoencoder")
    assert answer["model"]["reason"] is None and answer["model"]["version"]
    assert len(answer["prediction"]) == 60 and answer["metric"] == "bytes"


@pytest.mark.parametrize(
    "same",
    [
        {"type": "equals", "column": "sensor_name", "matchValueType": "STRING", "matchValue": SENSOR},
        {"type": "in", "dimension": "sensor_name", "values": [SENSOR]},
        {"type": "and", "fields": [{"type": "selector", "dimension": "sensor_name", "value": SENSOR}]},
    ],
)
def test_the_sensors_model_answers_every_form_of_its_filter(of_simulator: Asking, same: dict):
    assert of_simulator(query=flow_query(*HOUR, filter=same))["model"]["name"] == SENSOR


@pytest.mark.parametrize(
    "other",
    [
        None,
        {"type": "not", "field": {"type": "selector", "dimension": "sensor_name", "value": SENSOR}},
        {
            "type": "and",
            "fields": [
                {"type": "selector", "dimension": "sensor_name", "value": SENSOR},
                {"type": "selector", "dimension": "direction", "value": "internal"},
            ],
        },
        {"type": "in", "dimension": "sensor_name", "values": [SENSOR, "branch-oslo"]},
    ],
)
def test_a_sensors_model_never_judges_more_or_less_than_its_traffic(of_simulator: Asking, other: dict):
    assert of_simulator(query=flow_query(*HOUR, filter=other))["model"]["kind"] == "baseline"


def test_a_model_may_be_named_plain_or_in_base64(of_simulator: Asking):
    for name in (SENSOR, "aHEtbWFkcmlk", "aHEtbWFkcmlk\n"):
        assert of_simulator(query=flow_query(*HOUR, sensor="branch-oslo"), model=name)["model"]["name"] == SENSOR


def test_an_unknown_model_is_an_error_here_and_a_reason_in_the_old_dialect(of_simulator: Asking):
    """TRAPS 8: an unknown model was answered silently by the default one."""
    for name in ("no-such", "../../etc/passwd", "..", "/etc/passwd", "a\x00b", "x" * 5000):
        with pytest.raises(Unservable, match="no model named"):
            of_simulator(query=flow_query(*HOUR), model=name)
    answer = of_simulator(query=flow_query(*HOUR), model="no-such", must_exist=False)
    assert answer["model"]["kind"] == "baseline" and "no-such" in answer["model"]["reason"]


def test_a_granularity_that_the_model_does_not_know_is_the_reason_of_a_fallback(of_simulator: Asking):
    answer = of_simulator(query=flow_query(*HOUR, granularity={"type": "period", "period": "PT3M"}))
    assert answer["model"]["kind"] == "baseline" and "PT3M" in answer["model"]["reason"]


def test_a_name_that_means_something_else_in_the_query_is_the_reason_of_a_fallback(of_simulator: Asking):
    query = flow_query(*HOUR, aggregations=[{"type": "longSum", "name": "bytes", "fieldName": "sum_pkts"}])
    answer = of_simulator(query=query)
    assert answer["model"]["kind"] == "baseline" and "bytes" in answer["model"]["reason"]


def test_what_the_model_needs_is_added_and_the_callers_query_left_alone(of_simulator: Asking, simulator: Simulator):
    query = flow_query(*HOUR, context={"queryId": "mine", "priority": 5})
    before, copy = len(simulator.asked), repr(query)
    of_simulator(query=query)
    assert repr(query) == copy
    main = next(q for q in simulator.asked[before:] if q.get("context", {}).get("queryId") == "mine")
    assert main["aggregations"][0]["name"] == "bytes" and len(main["aggregations"]) == 4
    assert main["context"]["priority"] == 5 and main["context"]["uncoveredIntervalsLimit"] > 0


def test_a_metric_that_only_the_model_knows_is_answered(of_simulator: Asking):
    answer = of_simulator(query=flow_query(*HOUR), metric="flows_per_client")
    assert answer["metric"] == "flows_per_client" and all(row["score"] is not None for row in answer["prediction"])


def test_a_metric_of_the_callers_own_that_the_model_does_not_know_is_the_reason_of_a_fallback(of_simulator: Asking):
    events = [{"type": "longSum", "name": "mine", "fieldName": "events"}]
    answer = of_simulator(query=flow_query(*HOUR, aggregations=events))
    assert answer["metric"] == "mine" and all(row["score"] is not None for row in answer["prediction"])
    assert answer["model"]["kind"] == "baseline" and "does not know 'mine'" in answer["model"]["reason"]


# --- lead-in and history ------------------------------------------------------------------------------------------


def test_a_day_before_is_asked_as_well_and_only_the_hour_answered(of_simulator: Asking, simulator: Simulator):
    before = len(simulator.asked)
    answer = of_simulator(query=flow_query(*HOUR, sensor="branch-lyon", context={"queryId": "a"}, limit=1000))
    assert answer["lead_in"] == "P1D" and answer["warnings"] == [] and len(answer["prediction"]) == 60
    assert sorted(asked(simulator, before)) == [
        ("2026-05-27T10:00:00.000Z", "2026-05-28T10:00:00.000Z"),
        ("2026-05-28T10:00:00Z", "2026-05-28T11:00:00Z"),
    ]
    lead = next(q for q in simulator.asked[before:] if "2026-05-27" in str(q.get("intervals")))
    assert "limit" not in lead and lead["context"].get("queryId") != "a"


def test_no_lead_in_where_none_is_wanted_or_the_query_is_that_long(of_simulator: Asking, simulator: Simulator):
    before = len(simulator.asked)
    assert of_simulator(query=flow_query(*HOUR), lead_in="none")["lead_in"] is None
    assert of_simulator(query=flow_query("2026-05-26T10:00:00Z", "2026-05-27T10:00:00Z"))["lead_in"] is None
    assert len(asked(simulator, before)) == 2


def test_a_period_is_taken_literally(of_simulator: Asking, simulator: Simulator):
    before = len(simulator.asked)
    assert of_simulator(query=flow_query(*HOUR, sensor="hq-madrid"), lead_in="PT6H")["lead_in"] == "PT6H"
    assert ("2026-05-28T04:00:00.000Z", "2026-05-28T10:00:00.000Z") in asked(simulator, before)


def test_a_lead_in_past_the_bound_is_given_up_with_a_warning(of_simulator: Asking):
    answer = of_simulator(query=flow_query(*HOUR), lead_in="P60D")
    assert answer["lead_in"] is None and any("lead-in" in warning for warning in answer["warnings"])


def test_a_dashboard_that_asks_again_pays_for_the_new_buckets_only(of_simulator: Asking, simulator: Simulator):
    of_simulator(query=flow_query(*HOUR))
    before = len(simulator.asked)
    later = of_simulator(query=flow_query("2026-05-28T10:05:00Z", "2026-05-28T11:05:00Z"))
    assert asked(simulator, before) == [("2026-05-28T10:05:00Z", "2026-05-28T11:05:00Z")]
    fresh = Asking(of_simulator.context.config, of_simulator.context.models, NOW)
    assert later == fresh(query=flow_query("2026-05-28T10:05:00Z", "2026-05-28T11:05:00Z"))


def test_what_is_kept_is_extended_where_it_ends_before_the_interval(of_simulator: Asking, simulator: Simulator):
    of_simulator(query=flow_query(*HOUR))
    before = len(simulator.asked)
    later = of_simulator(query=flow_query("2026-05-28T13:00:00Z", "2026-05-28T14:00:00Z"))
    assert sorted(asked(simulator, before)) == [
        ("2026-05-28T11:00:00.000Z", "2026-05-28T13:00:00.000Z"),
        ("2026-05-28T13:00:00Z", "2026-05-28T14:00:00Z"),
    ]
    fresh = Asking(of_simulator.context.config, of_simulator.context.models, NOW)
    assert later == fresh(query=flow_query("2026-05-28T13:00:00Z", "2026-05-28T14:00:00Z"))


def test_a_slow_lead_in_is_given_up_with_a_warning(simulator: Simulator, models):
    asking = Asking(config_for(simulator.url, druid={"lead_in_timeout_s": 1.0, "cache_s": 60.0}), models, NOW)
    asking(query=flow_query(*HOUR), lead_in="none")  # newest and first event are known from here on
    simulator.faults.only = lambda query: "2026-05-27" in str(query.get("intervals"))
    simulator.faults.delay_s = 5.0
    try:
        answer = asking(query=flow_query(*HOUR))
    finally:
        simulator.faults.clear()
    assert len(answer["prediction"]) == 60 and answer["lead_in"] is None
    assert any("lead-in" in warning and "in time" in warning for warning in answer["warnings"])
    until = time.monotonic() + 20  # who asks the same while the slow call is under way shares it
    while asking(query=flow_query(*HOUR))["lead_in"] != "P1D":
        assert time.monotonic() < until, "an answer with a warning must not be kept"
        time.sleep(0.1)


# --- caches and coalescing ----------------------------------------------------------------------------------------


def test_an_answer_about_a_closed_interval_is_kept_for_a_moment(simulator: Simulator, models):
    asking = Asking(config_for(simulator.url), models, NOW)
    first = asking(query=flow_query(*HOUR))
    before = len(simulator.asked)
    assert asking(query=flow_query(*HOUR, context={"queryId": "another"})) == first
    assert asked(simulator, before) == []
    assert asking(query=flow_query(*HOUR), k=0.5)["model"]["threshold"] == 0.5
    assert asking(query=flow_query(*HOUR), mode="causal")["mode"] == "causal"


def test_a_kept_answer_takes_no_warning_about_a_request(simulator: Simulator, models):
    asking = Asking(config_for(simulator.url), models, NOW)
    first = asking(query=flow_query(*HOUR))
    misspelt = asking(query=flow_query(*HOUR), metirc="bytes")
    assert misspelt["warnings"] == ["The field 'metirc' is not known and was ignored."]
    assert asking(query=flow_query(*HOUR)) == first and first["warnings"] == []


def test_a_data_source_without_any_event_is_named(simulator: Simulator, no_models):
    asking = Asking(config_for(simulator.url), no_models, NOW)
    for sensor in ("hq-madrid", None):
        answer = asking(query=flow_query(*HOUR, sensor=sensor, dataSource="rb_flo"))
        assert "Druid has no data of the data source 'rb_flo'." in answer["warnings"]
    answer = asking(query=flow_query(*HOUR, sensor="nobody"))
    assert "Nothing in Druid matches the query's filter." in answer["warnings"]


def test_an_answer_about_an_open_interval_is_not_kept(simulator: Simulator, models):
    asking = Asking(config_for(simulator.url), models, NOW)
    query = flow_query("2026-05-28T19:00:00Z", "2026-05-28T20:00:00Z")
    asking(query=query)
    before = len(simulator.asked)
    answer = asking(query=query)
    assert len(asked(simulator, before)) == 1 and answer["prediction"][-1]["unfinished"]


def test_identical_queries_in_flight_share_one_call(simulator: Simulator, no_models):
    asking = Asking(config_for(simulator.url, druid={"cache_s": 0.0}), no_models, NOW)
    query = flow_query("2026-05-20T10:00:00Z", "2026-05-20T11:00:00Z", sensor="campus-lima")
    asking(query=query, lead_in="none")
    before = len(simulator.asked)
    simulator.faults.delay_s = 0.5
    answers: list = []
    threads = [threading.Thread(target=lambda: answers.append(asking(query=query, lead_in="none"))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    simulator.faults.clear()
    assert len(answers) == 6 and all(answer == answers[0] for answer in answers)
    assert len(asked(simulator, before)) < 6


def test_a_question_after_a_rest_waits_no_longer_than_it_may(simulator: Simulator, no_models):
    fetcher = Asking(config_for(simulator.url), no_models, NOW).context.source.fetcher
    query = flow_query(*HOUR)
    fetcher.start_times(query)(10.0)
    kept = fetcher._druid._newest["rb_flow"]
    fetcher._druid._newest["rb_flow"] = kept._replace(read_at=kept.read_at - 600, good_at=kept.good_at - 600)
    assert not fetcher.remembers_newest(query)
    simulator.faults.delay_s = 2.0
    try:
        began = time.monotonic()
        assert fetcher.start_times(query)(0.2).newest_s is None
        assert time.monotonic() - began < 1.0
    finally:
        simulator.faults.clear()


def test_who_has_more_time_than_the_call_it_shares_asks_again(simulator: Simulator, no_models):
    fetcher = Asking(config_for(simulator.url), no_models, NOW).context.source.fetcher
    query = {**flow_query(*HOUR, sensor="campus-lima"), "context": {"shared": 1}}
    simulator.faults.delay_s = 1.5
    ended: list = []

    def lead_in() -> None:
        try:
            fetcher.query(query, 0.5, "lead_in")
        except DruidTimeout as error:
            ended.append(error)

    thread = threading.Thread(target=lead_in)
    try:
        thread.start()
        time.sleep(0.2)
        assert len(fetcher.query(query, 15.0).rows) == 60
    finally:
        simulator.faults.clear()
        thread.join()
    assert len(ended) == 1


# --- bounds and refusals ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"granularity": "none"}, "none"),
        ({"granularity": "all"}, "all"),
        ({"granularity": "second", "intervals": ["2026-05-01/2026-05-08"]}, "buckets"),
        ({"intervals": ["2020-01-01/2026-05-08"]}, "buckets"),
        ({"queryType": "topN"}, "timeseries"),
        ({"queryType": None}, "timeseries"),
        ({"dataSource": "secrets"}, "may not be asked"),
        ({"dataSource": {"type": "union", "dataSources": ["rb_flow", "secrets"]}}, "may not be asked"),
        ({"dataSource": {"type": "query", "query": {}}}, "table"),
        ({"dataSource": {"type": "join", "left": "rb_flow"}}, "table"),
        ({"intervals": "yesterday"}, "interval"),
        ({"aggregations": [{"type": "count", "name": f"m{i}"} for i in range(65)]}, "65 metrics"),
    ],
)
def test_what_must_not_be_asked_is_refused_before_druid_is(recorded: Recorded, no_models, change: dict, said: str):
    """TRAPS 24: a query was passed on unbounded."""
    asking = Asking(config_for(recorded.url, druid={"data_sources": ("rb_flow",)}), no_models, NOW)
    with pytest.raises(Unservable, match=said):
        asking(query={**flow_query(*HOUR), **change})
    assert recorded.asked == []


def test_what_druid_refuses_is_the_querys_fault(of_recorded: Asking):
    with pytest.raises(Unservable, match="Druid refuses the query") as caught:
        of_recorded(query=CASES["unknown-aggregator"]["query"])
    assert "secret" not in str(caught.value)


def test_a_druid_that_fails_is_named_without_its_message(of_recorded: Asking, recorded: Recorded):
    recorded.failing = 500
    with pytest.raises(DruidFailed) as caught:
        of_recorded(query=CASES["hour-by-minute"]["query"])
    assert "Druid" in str(caught.value) and "secret-host" not in str(caught.value)


def test_a_druid_that_is_not_there_is_said(of_data: Asking):
    with pytest.raises(DruidUnreachable, match="Druid"):
        of_data(query=flow_query(*HOUR))


def test_a_druid_that_is_too_slow_is_said(simulator: Simulator, no_models):
    asking = Asking(config_for(simulator.url, druid={"timeout_s": 0.3}), no_models, NOW)
    simulator.faults.delay_s = 3.0
    try:
        with pytest.raises(DruidTimeout, match="Druid"):
            asking(query=flow_query(*HOUR), lead_in="none")
    finally:
        simulator.faults.clear()


# --- half an answer -----------------------------------------------------------------------------------------------


def test_uncovered_time_is_said_missing_and_never_kept(simulator: Simulator, no_models):
    """TRAPS 26: a dead historical node is a 200 with its rows left out."""
    asking = Asking(config_for(simulator.url), no_models, NOW)
    query = flow_query("2026-05-25T12:00:00Z", "2026-05-26T12:00:00Z", granularity="five_minute", sensor="warehouse")
    simulator.faults.uncovered = [(1779667200 + 86400, 1779667200 + 86400 + 43200)]  # the 26th, to noon
    try:
        answer = asking(query=query)
    finally:
        simulator.faults.clear()
    assert any("holds no data for 2026-05-26T00:00:00" in warning for warning in answer["warnings"])
    assert not [row for row in answer["anomalies"] if row["timestamp"] >= "2026-05-26"]
    again = asking(query=query)
    assert again["warnings"] == [] and len(again["prediction"]) == 288


def test_rows_that_end_early_are_said(of_recorded: Asking):
    answer = of_recorded(query=CASES["across-last-data"]["query"], lead_in="none")
    assert any("ends at" in warning for warning in answer["warnings"])


def test_a_stale_newest_event_and_one_ahead_of_the_clock_are_said(recorded: Recorded, no_models):
    query = CASES["hour-by-minute"]["query"]
    late = Asking(config_for(recorded.url), no_models, "2025-10-26T14:00:00Z")
    assert any("2 hours ago" in warning for warning in late(query=query)["warnings"])
    early = Asking(config_for(recorded.url), no_models, "2025-10-26T11:00:00Z")
    assert any("ahead of this node's clock" in warning for warning in early(query=query)["warnings"])
    right = Asking(config_for(recorded.url), no_models, "2025-10-26T12:05:00Z")
    assert right(query=query)["warnings"] == []


def test_an_ingestion_that_lags_is_no_outage(recorded: Recorded, no_models):
    recorded.newest = "2025-10-25T10:30:00.000Z"
    asking = Asking(config_for(recorded.url), no_models, "2025-10-25T11:05:00Z")
    answer = asking(query=CASES["hour-by-minute"]["query"], lead_in="none")
    unfinished = [row["timestamp"][11:16] for row in answer["prediction"] if row.get("unfinished")]
    assert unfinished[0] == "10:28" and len(unfinished) == 32
    assert all(row["score"] is None for row in answer["prediction"] if row.get("unfinished"))
