"""Rows to series: every row rule, on a real Druid's answers where it recorded them."""

from __future__ import annotations

import gzip
import json
from typing import Any, Optional

import numpy as np
import pytest

from outliers.druid.response import Parsed, ends_early_warning, parse_rows, with_derived, with_lead_in
from outliers.druid.traffic import DERIVED, TRAFFIC
from outliers.errors import InvalidRequest, Unservable
from outliers.times import instant_text
from tests.druid.conftest import DATA

CASES = {c["name"]: c for c in map(json.loads, gzip.decompress((DATA / "cases.jsonl.gz").read_bytes()).splitlines())}
START_MS = 1_761_386_400_000  # 2025-10-25T10:00:00Z


def recorded(name: str, **options: Any) -> Parsed:
    return parse_rows(json.loads(CASES[name]["body"]), CASES[name]["query"], **options)


def rows(values: list[Any], step_s: int = 60, metric: str = "bytes", start_ms: int = START_MS) -> list[dict[str, Any]]:
    return [
        {"timestamp": instant_text(start_ms + i * step_s * 1000), "result": {metric: value}}
        for i, value in enumerate(values)
    ]


def column(parsed: Parsed, metric: str) -> list[Optional[float]]:
    values = parsed.series.values[:, parsed.series.column(metric)].tolist()
    return [None if value != value else value for value in values]


def test_absent_buckets_are_missing_and_get_no_row() -> None:
    parsed = recorded("hole-by-minute-skip-empty")
    assert (len(parsed.series), len(parsed.row_position)) == (15, 9)
    assert parsed.present.sum() == 9
    assert np.isnan(parsed.series.values[~parsed.present]).all()
    assert not parsed.empty.any()


def test_empty_buckets_are_zero_where_the_query_counts() -> None:
    parsed = recorded("hole-by-minute")
    assert parsed.empty.sum() == 6
    assert (parsed.series.values[parsed.empty] == 0).all()
    assert parsed.counts.all()
    assert parsed.missing.tolist() == [0, 0, 0, 0]


def test_empty_buckets_stay_missing_where_the_settings_say_so() -> None:
    parsed = recorded("hole-by-minute", empty="missing")
    assert np.isnan(parsed.series.values[parsed.empty]).all()
    assert parsed.empty.sum() == 6


def test_a_monitor_sampled_more_rarely_than_asked_has_no_zeros() -> None:
    parsed = recorded("monitor-between-points")
    assert not parsed.counts.any()
    assert not parsed.empty.any()
    assert parsed.missing.tolist() == [9, 9]
    forced = recorded("monitor-between-points", empty="zero")
    assert forced.empty.sum() == 9
    assert column(forced, "sum").count(0.0) == 9
    assert column(forced, "max").count(None) == 9  # the largest of nothing is nothing, whatever the settings


def test_a_metric_that_is_null_in_a_bucket_with_events_is_missing() -> None:
    parsed = recorded("null-metric")
    assert not parsed.empty.any()
    assert parsed.missing[parsed.series.column("pkts")] == 8


def test_quotients_of_nothing_and_by_zero_are_missing() -> None:
    parsed = recorded("division-by-zero")
    assert parsed.empty.sum() == 6
    assert column(parsed, "bytes")[3] is not None
    assert column(parsed, "bytes_per_flow").count(None) == 6
    assert not np.isinf(parsed.series.values).any()
    assert column(parsed, "quotient") == [None] * 12


def test_rates_of_counts_are_zero_with_them_and_ratios_are_not() -> None:
    query = CASES["rates"]["query"]
    answer = [{"timestamp": instant_text(START_MS), "result": dict.fromkeys(("bytes", "pkts", "flows", "bps"))}]
    answer[0]["result"].update({"clients": 0.0, "bytes_per_client": None})  # type: ignore[attr-defined]
    parsed = parse_rows(answer, {**query, "intervals": "2025-10-25T10:00Z/PT5M"})
    assert column(parsed, "bps") == [0.0]
    assert column(parsed, "bytes_per_client") == [None]
    assert dict(zip(parsed.series.metrics, parsed.counts.tolist())) == {
        **{"bytes": True, "pkts": True, "flows": True, "clients": True},
        **{"bps": True, "bytes_per_client": False},
    }


def test_counting_is_seen_inside_filtered_aggregations() -> None:
    query = {
        "granularity": "minute",
        "intervals": "2025-10-25T10:00Z/PT2M",
        "aggregations": [
            {"type": "filtered", "filter": {"type": "true"}, "aggregator": {"type": "longSum", "name": "in"}},
            {"type": "doubleSum", "name": "load"},
        ],
    }
    parsed = parse_rows(rows([5, None], metric="in"), query)
    assert column(parsed, "in") == [5.0, 0.0]
    assert parsed.empty.tolist() == [False, True]


def test_with_data_alone_the_usual_names_count() -> None:
    data = [
        {"timestamp": instant_text(START_MS), "result": {"bytes": 8, "bps": 1.0, "bytes_per_client": 8.0, "cpu": 3.0}},
        {"timestamp": instant_text(START_MS + 60000), "result": {"bytes": None, "bps": None, "cpu": None}},
    ]
    parsed = parse_rows(data)
    assert [column(parsed, m)[1] for m in ("bytes", "bps", "bytes_per_client", "cpu")] == [0.0, 0.0, None, None]


def test_grand_total_is_no_row() -> None:
    parsed = recorded("grand-total")
    assert (len(parsed.series), len(parsed.timestamps), len(parsed.row_position)) == (10, 10, 10)


def test_descending_rows_are_sorted_and_keep_their_place() -> None:
    parsed = recorded("descending")
    assert (np.diff(parsed.series.timestamps) == 60).all()
    assert parsed.row_position.tolist() == list(range(19, -1, -1))
    assert parsed.timestamps[0] == "2025-10-25T10:19:00.000Z"
    ascending = recorded("hour-by-minute")
    assert (parsed.series.values == ascending.series.values[:20]).all()


def test_of_repeated_timestamps_the_last_counts_and_both_are_answered() -> None:
    data = rows([1, 2, 3])
    data.insert(1, {"timestamp": data[2]["timestamp"], "result": {"bytes": 99}})
    parsed = parse_rows(data)
    assert column(parsed, "bytes") == [1.0, 2.0, 3.0]
    assert parsed.row_position.tolist() == [0, 2, 1, 2]
    assert any("last row counts" in warning for warning in parsed.warnings)


def test_timestamps_stay_as_druid_wrote_them() -> None:
    parsed = recorded("period-hour-madrid-autumn")
    assert parsed.timestamps[2:4] == ("2025-10-26T02:00:00.000+02:00", "2025-10-26T02:00:00.000+01:00")
    assert parsed.row_position.tolist() == list(range(7))
    assert parsed.series.granularity == "PT1H"


def test_days_of_a_zone_have_their_own_seconds() -> None:
    parsed = recorded("period-day-madrid-autumn")
    assert (parsed.seconds / 3600).tolist() == [24, 25, 24, 24]
    assert parsed.series.step_s == 86400
    derived = with_derived(parsed)
    assert column(derived, "bps")[1] == pytest.approx(derived.series.values[1, 0] * 8 / (25 * 3600))


def test_buckets_of_an_interval_off_the_grid_are_partial() -> None:
    assert recorded("off-grid-interval").partial.tolist() == [True, False, False, False, True]
    assert not recorded("two-intervals").partial.any()


def test_two_intervals_are_one_grid_with_the_time_between_missing() -> None:
    parsed = recorded("two-intervals")
    assert len(parsed.series) == 28
    assert parsed.present.sum() == 8
    assert np.isnan(parsed.series.values[4:24]).all()


def test_rows_that_end_before_the_asked_end_are_told() -> None:
    parsed = recorded("across-last-data")
    assert parsed.ends_early_s is not None
    assert "2025-11-10T00:00:00.000Z" in ends_early_warning(parsed.ends_early_s)
    assert recorded("hour-by-minute").ends_early_s is None
    assert recorded("limit").ends_early_s is None


def test_no_rows_are_an_empty_series_with_the_metrics_of_the_query() -> None:
    parsed = recorded("before-all-data")
    assert len(parsed.series) == 0
    assert parsed.series.metrics == ("bytes", "pkts", "flows", "clients")
    assert len(parse_rows([]).series) == 0


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "x", True, False, None, [], {}, 1e300, 10**400])
def test_what_is_no_finite_number_is_missing(value: Any) -> None:
    parsed = parse_rows(rows([1.0, value, 3], metric="cpu"))
    assert column(parsed, "cpu") == [1.0, None, 3.0]
    nothing = value in (None, "NaN")
    assert (parsed.missing.tolist(), parsed.unusable.tolist()) == ([int(nothing)], [int(not nothing)])


@pytest.mark.parametrize("value", ["abc", "Infinity", True, [], 1e300, 10**400])
def test_a_count_that_is_no_number_is_not_an_empty_bucket(value: Any) -> None:
    for mode in ("auto", "zero"):
        parsed = parse_rows(rows([5, value, 0, None]), empty=mode)
        assert column(parsed, "bytes") == [5.0, None, 0.0, 0.0]
        assert (parsed.empty.tolist(), parsed.unusable.tolist()) == ([False, False, True, True], [1])


def test_numbers_written_as_texts_are_numbers() -> None:
    assert column(parse_rows(rows(["1.5", "2", 3], metric="cpu")), "cpu") == [1.5, 2.0, 3.0]


def test_rows_with_different_keys_have_all_of_them() -> None:
    data = rows([1, 2])
    data[1]["result"] = {"pkts": 7}
    parsed = parse_rows(data)
    assert parsed.series.metrics == ("bytes", "pkts")
    assert column(parsed, "pkts") == [None, 7.0]


def test_metrics_follow_the_order_of_the_query() -> None:
    assert recorded("rates").series.metrics == ("bytes", "pkts", "flows", "clients", "bps", "bytes_per_client")


def test_without_a_query_the_step_is_the_commonest_gap() -> None:
    data = rows([1, 2, 3, 4, 5], step_s=3600)
    del data[2]
    parsed = parse_rows(data)
    assert (parsed.series.granularity, len(parsed.series)) == ("PT1H", 5)
    assert column(parsed, "bytes")[2] is None


def test_without_a_query_local_days_keep_one_bucket_each_over_a_change_of_the_clock() -> None:
    texts = [f"2025-03-{day}T00:00:00.000+0{1 if day < 31 else 2}:00" for day in range(27, 32)]
    parsed = parse_rows([{"timestamp": text, "result": {"bytes": i}} for i, text in enumerate(texts)])
    assert parsed.row_position.tolist() == [0, 1, 2, 3, 4]
    assert not parsed.warnings


def test_without_a_query_months_are_a_calendar() -> None:
    texts = [f"2025-{month:02d}-01T00:00:00.000Z" for month in range(1, 13)]
    parsed = parse_rows([{"timestamp": text, "result": {"bytes": i}} for i, text in enumerate(texts)])
    assert (parsed.series.granularity, len(parsed.series)) == ("P1M", 12)


def test_one_row_alone_is_a_minute_and_says_so() -> None:
    parsed = parse_rows(rows([5]))
    assert (parsed.series.granularity, len(parsed.series)) == ("PT1M", 1)
    assert "minute" in parsed.warnings[0]


@pytest.mark.parametrize(
    "data",
    [
        {"timestamp": "x"},
        [1],
        [{"timestamp": "2025-10-25T10:00:00.000Z"}],
        [{"timestamp": "2025-10-25T10:00:00.000Z", "result": [1]}],
        [{"timestamp": 5, "result": {}}],
        [{"timestamp": "2025-10-25T10:00:00.000Z", "result": {}}, {"timestamp": "noon", "result": {}}],
    ],
)
def test_data_that_is_no_druid_answer_is_malformed_and_says_where(data: Any) -> None:
    with pytest.raises(InvalidRequest, match=r"row \d|not a list|noon"):
        parse_rows(data)


def test_rows_far_apart_are_refused_before_their_grid_is_made() -> None:
    data = rows([1, 2, 3]) + rows([4], start_ms=4_102_444_800_000)
    with pytest.raises(Unservable, match="at most 50000"):
        parse_rows(data)
    with pytest.raises(Unservable, match="at most 10 "):
        parse_rows(rows([1.0] * 100), points=10)


def test_derived_metrics_are_those_of_the_deployed_service() -> None:
    """The recorded 8-hour answer of a production Druid carries its own rates and ratios."""
    data = [
        {"timestamp": instant_text(START_MS), "result": {"bytes": 54886581156, "pkts": 56784384, "flows": 166473}},
        {"timestamp": instant_text(START_MS + 28_800_000), "result": {"bytes": None, "pkts": None, "flows": None}},
    ]
    data[0]["result"]["clients"] = 51.64575281885815  # type: ignore[index]
    data[1]["result"]["clients"] = 0.0  # type: ignore[index]
    parsed = with_derived(parse_rows(data))
    expected = {
        "bps": 1.5246272543333333e7,
        "pps": 1971.68,
        "fps": 5.7803125,
        "bytes_per_client": 1.062751110406091e9,
        "flows_per_client": 3223.3628307033478,
        "bits_per_sec_per_client": 295208.6417794697,
        "flows_per_sec_per_client": 0.1119223205105329,
    }
    assert {name: column(parsed, name)[0] for name in DERIVED} == pytest.approx(expected)
    assert [column(parsed, name)[1] for name in DERIVED] == [0.0, 0.0, 0.0, None, None, None, None]
    assert set(parsed.series.metrics) == set(TRAFFIC)
    assert parsed.missing.sum() == 0


def test_lead_in_lies_before_the_asked_rows_on_one_grid() -> None:
    query = {"granularity": "minute", "aggregations": [{"type": "longSum", "name": "bytes"}]}
    lead = parse_rows(rows([1, 2, 3, 50]), query)
    asked = parse_rows(rows([10, 11], start_ms=START_MS + 5 * 60000), query)
    joined, first = with_lead_in(asked, lead)
    assert first == 5
    assert column(joined, "bytes") == [1.0, 2.0, 3.0, 50.0, None, 10.0, 11.0]
    assert joined.row_position.tolist() == [5, 6]
    assert joined.present.tolist() == [True, True, True, True, False, True, True]
    overlapping, first = with_lead_in(parse_rows(rows([10, 11], start_ms=START_MS + 120000), query), lead)
    assert column(overlapping, "bytes") == [1.0, 2.0, 10.0, 11.0]
    assert with_lead_in(asked, parse_rows([], query)) == (asked, 0)
