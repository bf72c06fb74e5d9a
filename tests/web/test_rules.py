"""Every line of CONTRACT §2's table of rules, on rows that the caller brings and on a real Druid's recorded answers."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from outliers.errors import InvalidRequest, Unservable
from tests.web.asking import Asking, config_for, flow_query, rows
from tests.web.recorded import Recorded, cases

CASES = cases()


def wave(points: int, spike: int = -1, factor: float = 8.0) -> list[float]:
    noise = np.random.default_rng(7).normal(0, 20, points)
    values = 1000 + 200 * np.sin(np.arange(points) * 2 * np.pi / 1440) + noise
    if spike >= 0:
        values[spike] *= factor
    return [float(value) for value in values.round(3)]


def case_rows(name: str) -> list:
    return json.loads(CASES[name]["body"])


# --- flag, score, band, direction ---------------------------------------------------------------------------------


def test_a_spike_is_one_anomaly_with_its_direction_and_values(of_data: Asking):
    answer = of_data(data=rows(wave(600, spike=300)))
    assert answer["status"] == "success"
    found = next(row for row in answer["anomalies"] if row["timestamp"] == "2026-05-01T05:00:00.000Z")
    assert len(answer["anomalies"]) < 60
    assert found["actual"] > 5 * found["expected"] > 0
    assert found["score"] >= 1 and found["direction"] == "up" and found["metrics"] == ["bytes"]
    row = answer["prediction"][300]
    assert row["lower"] <= row["forecast"] <= row["upper"] < found["actual"]


def test_a_drop_is_down(of_data: Asking):
    answer = of_data(data=rows(wave(600, spike=300, factor=0.0)))
    found = next(row for row in answer["anomalies"] if row["timestamp"] == "2026-05-01T05:00:00.000Z")
    assert found["direction"] == "down" and found["actual"] == 0.0


@pytest.mark.parametrize("mode", ["whole", "causal"])
@pytest.mark.parametrize("witness", [True, False])
def test_flagged_means_outside_or_carried_on_every_answer(no_models, mode: str, witness: bool):
    asking = Asking(config_for(detection={"witness": witness}), no_models, "2026-06-01T00:00:00Z")
    rng = np.random.default_rng(3)
    for shape in range(12):
        points = int(rng.integers(1, 700))
        values = rng.lognormal(5, 1 + shape % 3, points)
        values[rng.random(points) < 0.05] = np.nan
        values[rng.random(points) < 0.05] *= 30
        listed = [None if math.isnan(value) else value for value in values]
        asking(data=rows(listed), mode=mode, k=float(rng.uniform(0.2, 2)))  # check_promises is in the asking


def test_a_lower_k_flags_more(of_data: Asking):
    data = rows(wave(600, spike=300, factor=1.3))
    counts = [len(of_data(data=data, k=k)["anomalies"]) for k in (0.3, 1.0, 5.0)]
    assert counts[0] > counts[2] and counts == sorted(counts, reverse=True)
    assert of_data(data=data, k=5.0)["model"]["threshold"] == 5.0


def test_the_band_of_a_count_is_never_below_zero(of_data: Asking):
    small = np.random.default_rng(4).poisson(1.0, 300).astype(float).tolist()
    lower = [row["lower"] for row in of_data(data=rows(small))["prediction"]]
    assert min(lower) == 0 and max(lower) < 1


# --- rows ---------------------------------------------------------------------------------------------------------


def test_one_row_for_each_input_row_with_its_timestamp_as_druid_wrote_it(of_data: Asking):
    data = case_rows("period-hour-madrid-autumn")
    answer = of_data(data=data, query=CASES["period-hour-madrid-autumn"]["query"])
    assert [row["timestamp"] for row in answer["prediction"]] == [row["timestamp"] for row in data]
    assert "+02:00" in data[0]["timestamp"] and "+01:00" in data[-1]["timestamp"]


def test_many_metrics_that_deviate_at_once_make_one_row(of_data: Asking):
    """TRAPS 1: every flagged feature added a row."""
    data = rows(wave(600, spike=300))
    for row in data:
        row["result"]["pkts"] = row["result"]["bytes"] / 10
        row["result"]["flows"] = row["result"]["bytes"] / 100
    answer = of_data(data=data)
    found = [row for row in answer["anomalies"] if row["timestamp"] == "2026-05-01T05:00:00.000Z"]
    assert len(found) == 1 and sorted(found[0]["metrics"]) == ["bytes", "flows", "pkts"]


def test_not_everything_is_flagged(of_data: Asking):
    """TRAPS 2: all points of its own test series were flagged."""
    assert len(of_data(data=rows(wave(1440)))["anomalies"]) <= 5


def test_the_newest_and_the_first_row_are_predicted(of_data: Asking):
    """TRAPS 4: the newest 12 of 60 points were dropped."""
    answer = of_data(data=rows(wave(60, spike=59)))
    assert len(answer["prediction"]) == 60
    assert answer["prediction"][0]["score"] is not None
    assert "2026-05-01T00:59:00.000Z" in [row["timestamp"] for row in answer["anomalies"]]


def test_the_asked_metric_is_the_one_that_is_judged(of_data: Asking):
    """TRAPS 5: the requested metric was ignored."""
    data = rows(wave(600, spike=300))
    for row, calm in zip(data, wave(600)):
        row["result"]["pkts"] = calm
    bytes_, pkts = of_data(data=data, metric="bytes"), of_data(data=data, metric="pkts")
    assert data[300]["result"]["bytes"] in [row["actual"] for row in bytes_["anomalies"]]
    assert all(row["actual"] != data[300]["result"]["bytes"] for row in pkts["anomalies"])
    assert [row["forecast"] for row in pkts["prediction"]] != [row["forecast"] for row in bytes_["prediction"]]


def test_any_gives_each_row_the_metric_furthest_out(of_data: Asking):
    data = rows(wave(600, spike=100))
    for row, value in zip(data, wave(600, spike=400)):
        row["result"]["pkts"] = value
    answer = of_data(data=data, metric="any")
    assert answer["metric"] == "any"
    assert {row["metric"] for row in answer["prediction"]} == {"bytes", "pkts"}
    flagged = [(row["timestamp"][11:16], row["metric"]) for row in answer["anomalies"]]
    assert ("01:40", "bytes") in flagged and ("06:40", "pkts") in flagged


def test_repeated_rows_are_both_answered_and_the_last_counts(of_data: Asking):
    data = rows(wave(200))
    data.insert(101, {"timestamp": data[100]["timestamp"], "result": {"bytes": 90000.0}})
    answer = of_data(data=data)
    assert len(answer["prediction"]) == 201
    assert answer["prediction"][100] == answer["prediction"][101]
    flagged = {row["timestamp"]: row["actual"] for row in answer["anomalies"]}
    assert flagged[data[100]["timestamp"]] == 90000.0
    assert any("repeats" in warning for warning in answer["warnings"])


def test_descending_rows_are_judged_by_time_and_answered_in_their_order(of_recorded: Asking):
    case = CASES["descending"]
    answer = of_recorded(query=case["query"])
    assert [r["timestamp"] for r in answer["prediction"]] == [r["timestamp"] for r in json.loads(case["body"])]
    data = rows(wave(300, spike=10))
    backwards = of_recorded(data=data[::-1])
    assert backwards["prediction"] == of_recorded(data=data)["prediction"][::-1]


def test_the_grand_total_is_no_row(of_recorded: Asking):
    case = CASES["grand-total"]
    assert json.loads(case["body"])[-1]["timestamp"] is None
    answer = of_recorded(query=case["query"])
    assert len(answer["prediction"]) == len(json.loads(case["body"])) - 1


def test_a_limit_answers_the_rows_that_came(of_recorded: Asking):
    assert len(of_recorded(query=CASES["limit"]["query"])["prediction"]) == 5


# --- missing, empty, partial, unfinished --------------------------------------------------------------------------


def test_absent_buckets_get_no_row_and_are_missing(of_recorded: Asking):
    query = CASES["hour-by-minute-skip-empty"]["query"]
    answer = of_recorded(query=query)
    assert len(answer["prediction"]) == len(case_rows("hour-by-minute-skip-empty")) < 60
    assert all(row["score"] is not None for row in answer["prediction"])


def test_an_empty_bucket_is_zero_for_what_counts(of_recorded: Asking):
    """TRAPS 25: null sums, an outage that was never seen."""
    answer = of_recorded(query=CASES["hole-by-minute"]["query"], lead_in="none")
    nothing = [i for i, row in enumerate(case_rows("hole-by-minute")) if row["result"]["bytes"] is None]
    assert nothing and all(answer["prediction"][i]["score"] is not None for i in nothing)
    assert not any("without a value" in warning for warning in answer["warnings"])


def test_an_outage_of_null_sums_is_found(of_data: Asking):
    values: list = wave(600)
    values[300:330] = [None] * 30
    query = flow_query("2026-05-01T00:00:00Z", "2026-05-01T10:00:00Z")
    answer = of_data(query=query, data=rows(values))
    found = [row["timestamp"][11:16] for row in answer["anomalies"]]
    assert {f"05:{minute:02}" for minute in range(30)} <= set(found)
    during = [row for row in answer["anomalies"] if "05:00" <= row["timestamp"][11:16] < "05:30"]
    assert {row["actual"] for row in during} == {0.0} and {row["direction"] for row in during} == {"down"}


def test_empty_may_be_configured_as_missing(no_models):
    asking = Asking(config_for(detection={"empty": "missing"}), no_models, "2026-06-01T00:00:00Z")
    values: list = wave(600)
    values[300:330] = [None] * 30
    answer = asking(query=flow_query("2026-05-01T00:00:00Z", "2026-05-01T10:00:00Z"), data=rows(values))
    assert answer["anomalies"] == [] and answer["prediction"][310]["score"] is None


def test_a_monitor_between_its_samples_has_no_zeros(of_recorded: Asking):
    """TRAPS 25, the other half: read as zero, it is all anomalies."""
    answer = of_recorded(query=CASES["monitor-between-points"]["query"], lead_in="none")
    scores = {r["timestamp"]: r["score"] for r in answer["prediction"]}
    for row in case_rows("monitor-between-points"):
        assert (scores[row["timestamp"]] is None) == (row["result"]["sum"] is None)
    assert answer["anomalies"] == []
    assert any("without a value of 'sum'" in warning for warning in answer["warnings"])


def test_infinity_and_other_strings_are_missing(of_recorded: Asking, of_data: Asking):
    query = CASES["division-by-zero"]["query"]
    answer = of_recorded(query=query, metric="quotient", lead_in="none")
    assert answer["anomalies"] == [] and any("missing" in warning for warning in answer["warnings"])
    data = rows([*wave(50), "NaN", "Infinity", "-Infinity", "many", True, None, {}, [], *wave(50)], name="value")
    answer = of_data(data=data)
    assert [row["score"] is None for row in answer["prediction"][50:58]] == [True] * 8
    assert all(row["forecast"] is not None for row in answer["prediction"])
    assert "2 rows are without a value of 'value': missing, not judged." in answer["warnings"]
    assert "6 values of 'value' are no number, or beyond 3.4e+38: missing, not judged." in answer["warnings"]


@pytest.mark.parametrize("value", ["abc", 1e300])
def test_a_count_that_is_no_number_is_missing_and_harms_no_other_point(of_data: Asking, value: object):
    """It was taken for an empty bucket, 0, and flagged; 1e300 left most other points without a score."""
    values: list = wave(600)
    values[300] = value
    for metric in ("bytes", "any"):
        answer = of_data(data=rows(values), metric=metric)
        assert [i for i, row in enumerate(answer["prediction"]) if row["score"] is None] == [300]
        assert answer["prediction"][300]["actual"] is None and answer["prediction"][300]["forecast"] > 500
        assert "2026-05-01T05:00:00.000Z" not in [row["timestamp"] for row in answer["anomalies"]]
        of = "" if metric == "any" else " of 'bytes'"
        assert answer["warnings"] == [f"1 value{of} is no number, or beyond 3.4e+38: missing, not judged."]
    answer = of_data(data=rows([value] * 30))
    assert answer["prediction"] == [] and "30 values of 'bytes' are no number" in answer["warnings"][0]


def test_a_bucket_that_is_not_complete_is_predicted_and_not_judged(of_data: Asking):
    values = wave(120)
    values[118:] = [3.0, 1.0]
    of_data.now_s = 1777593600 + 120 * 60  # 02:00, the end of the last bucket; [Druid] settle_s is 120
    answer = of_data(data=rows(values))
    assert [row.get("unfinished", False) for row in answer["prediction"][-4:]] == [False, False, True, True]
    assert [row["score"] for row in answer["prediction"][-2:]] == [None, None]
    assert answer["prediction"][-1]["forecast"] > 500 and answer["anomalies"] == []


def test_an_unfinished_bucket_that_is_already_above_its_band_is_flagged_up(of_data: Asking):
    values = wave(120)
    values[118:] = [90000.0, 1.0]
    of_data.now_s = 1777593600 + 120 * 60
    answer = of_data(data=rows(values))
    found = answer["anomalies"][-1]
    assert (found["actual"], found["direction"], found["unfinished"]) == (90000.0, "up", True)
    assert answer["prediction"][-1]["score"] is None


def test_an_interval_that_reaches_into_the_future_is_no_outage(of_data: Asking):
    values: list = [*wave(100), *[None] * 60]
    of_data.now_s = 1777593600 + 100 * 60
    query = flow_query("2026-05-01T00:00:00Z", "2026-05-01T02:40:00Z")
    answer = of_data(query=query, data=rows(values))
    assert answer["anomalies"] == [] and all(row["unfinished"] for row in answer["prediction"][-60:])
    assert answer["warnings"] == []


def test_rows_later_than_the_clock_are_said(of_data: Asking):
    values = wave(100) + [1.0] * 20
    of_data.now_s = 1777593600 + 100 * 60 + 1  # the last 19 rows begin later
    answer = of_data(data=rows(values))
    said = "rows are later than this node's clock: unfinished, and not judged unless already above the band."
    assert answer["warnings"] == [f"19 {said}"]
    assert all(row["unfinished"] and row["score"] is None for row in answer["prediction"][-19:])
    late = of_data(data=rows(values), judge_from="2026-05-01T01:57:00Z")
    assert late["warnings"][0] == f"3 {said}"


def test_partial_buckets_at_the_ends_are_predicted_and_not_judged(of_recorded: Asking):
    answer = of_recorded(query=CASES["off-grid-interval"]["query"])
    assert [row.get("partial", False) for row in answer["prediction"]] == [True, False, False, False, True]
    assert [row["score"] is None for row in answer["prediction"]] == [True, False, False, False, True]
    assert all(row["forecast"] is not None for row in answer["prediction"])


def test_before_the_first_event_nothing_is_an_outage(of_recorded: Asking, recorded: Recorded):
    query = flow_query("2025-10-25T00:00:00Z", "2025-10-25T06:00:00Z", sensor="new")
    values: list = [None] * 200 + wave(160)
    recorded.extra[json.dumps({**query, "context": {}}, sort_keys=True)] = rows(values, "2025-10-25T00:00:00Z")
    recorded.first = "2025-10-25T03:20:00Z"
    answer = of_recorded(query=query, lead_in="none")
    assert [row["score"] is None for row in answer["prediction"]] == [True] * 200 + [False] * 160
    assert answer["anomalies"] == [] and answer["warnings"] == of_recorded(query=query, lead_in="none")["warnings"]


def test_a_filter_that_nothing_matches_is_said(of_recorded: Asking, recorded: Recorded):
    recorded.first = None
    answer = of_recorded(query=CASES["nothing-matches"]["query"])
    assert answer["anomalies"] == answer["prediction"] == []
    assert "Nothing in Druid matches the query's filter." in answer["warnings"]


# --- short and empty ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("points", [1, 2, 3, 5, 12, 31])
def test_a_few_points_are_answered_with_a_reason(of_data: Asking, points: int):
    answer = of_data(data=rows(wave(points)))
    assert len(answer["prediction"]) == points and answer["anomalies"] == []
    assert str(points) in answer["model"]["reason"]


def test_no_rows_are_success_with_a_warning(of_data: Asking):
    for data in ([], [{"timestamp": None, "result": {"bytes": 1}}]):
        answer = of_data(data=data)
        assert answer["anomalies"] == answer["prediction"] == [] and answer["warnings"]


def test_all_missing_is_success_with_a_warning(of_data: Asking):
    answer = of_data(data=rows([None] * 30, name="value"))
    assert answer["anomalies"] == answer["prediction"] == []
    assert answer["warnings"] == ["All values of 'value' are missing."]


@pytest.mark.parametrize("values", [[0.0] * 300, [7.0] * 300, [3e38] * 50, [-5.0] * 100, [1e-300] * 40, [2**70] * 30])
def test_numbers_on_the_wire_are_finite_or_null(of_data: Asking, values: list):
    answer = of_data(data=rows(values))
    assert len(answer["prediction"]) == len(values)  # json.loads in Asking would have read NaN; the next line would not

    def check(value: object) -> None:
        if isinstance(value, float):
            assert math.isfinite(value)
        for child in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            check(child)

    check(answer)
    assert answer["anomalies"] == []


# --- metric -------------------------------------------------------------------------------------------------------


def test_the_default_metric_is_the_configured_one_then_monitors_then_the_first(of_data: Asking):
    def chosen(*names: str) -> str:
        data = [{"timestamp": f"2026-05-01T00:{i:02}:00Z", "result": dict.fromkeys(names, i)} for i in range(20)]
        return of_data(data=data)["metric"]

    assert chosen("pkts", "bytes") == "bytes"
    assert chosen("pkts", "monitors") == "monitors"
    assert chosen("pkts", "flows") == "pkts"


def test_an_unknown_metric_is_refused(of_data: Asking):
    with pytest.raises(Unservable, match="'nope' is neither in the query nor in its rows"):
        of_data(data=rows(wave(20)), metric="nope")


def test_the_old_json_of_an_exception_is_impossible(of_data: Asking):
    """TRAPS 9: an exception object was put into the JSON."""
    with pytest.raises(InvalidRequest, match="row 1"):
        of_data(data=[rows([1.0])[0], {"nothing": 1}])


# --- data with a query, judge_from, granularity -------------------------------------------------------------------


def test_judge_from_answers_only_the_rows_from_there_on(of_data: Asking):
    data = rows(wave(600, spike=590))
    answer = of_data(data=data, judge_from="2026-05-01T09:00:00Z")
    assert len(answer["prediction"]) == 60
    assert "2026-05-01T09:50:00.000Z" in [row["timestamp"] for row in answer["anomalies"]]
    assert answer["prediction"] == of_data(data=data)["prediction"][540:]


def test_judge_from_that_is_no_time_is_refused(of_data: Asking):
    with pytest.raises(InvalidRequest, match="judge_from"):
        of_data(data=rows(wave(5)), judge_from="yesterday")


def test_the_commonest_gap_is_the_step_without_a_query(of_data: Asking):
    assert of_data(data=rows(wave(50), step_s=300))["granularity"] == "PT5M"
    assert of_data(data=case_rows("period-90m"))["granularity"] == "PT1H30M"


def test_the_query_says_the_step_of_data(of_data: Asking):
    """TRAPS 23: pt1h30m was read as 7800 s."""
    case = CASES["period-90m"]
    assert of_data(data=json.loads(case["body"]), query=case["query"])["granularity"] == "PT1H30M"


def test_data_that_spans_too_many_buckets_is_refused(of_data: Asking):
    data = [{"timestamp": at, "result": {"bytes": 1}} for at in ("2026-01-01", "2026-01-01T00:01:00Z", "2027-01-01")]
    with pytest.raises(Unservable, match="50000"):
        of_data(data=data)


@pytest.mark.parametrize(
    "query",
    [{"aggregations": "all"}, {"aggregations": [5]}, {"filter": []}, {"granularity": "all"}, {"granularity": "often"}],
)
def test_a_malformed_query_beside_data_is_refused_not_a_crash(of_data: Asking, query: dict):
    with pytest.raises(Unservable):
        of_data(data=rows(wave(5)), query=query)
