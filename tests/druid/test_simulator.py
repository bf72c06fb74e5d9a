"""The generated traffic: realistic, consistent, deterministic, and known in its anomalies."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Optional

import numpy as np
import pytest
import requests

from outliers.druid.client import Druid
from outliers.druid.query import sensor_filter, training_query
from outliers.druid.response import Parsed, parse_rows
from outliers.druid.simulator import Simulator
from outliers.druid.simulator.dump import write_events
from outliers.druid.simulator.labels import labels_of
from outliers.druid.simulator.sensors import SENSORS, rhythm
from outliers.druid.traffic import FLOW_AGGREGATIONS
from outliers.errors import ConfigError
from tests.druid.conftest import NOW_S, Settings

DAY_S = 86_400
MIDNIGHT_S = NOW_S // DAY_S * DAY_S


def asked(druid: Druid, sensor: Optional[str], step: str, start_s: int, end_s: int) -> Parsed:
    filter = None if sensor is None else sensor_filter(sensor)
    query = training_query("rb_flow", filter, FLOW_AGGREGATIONS, step, start_s, end_s)
    return parse_rows(druid.query(query).rows, query)


def test_sums_agree_at_every_granularity(client: Druid) -> None:
    start_s, end_s = MIDNIGHT_S - 2 * DAY_S, MIDNIGHT_S - DAY_S
    minutes = asked(client, "branch-lyon", "PT1M", start_s, end_s).series
    hours = asked(client, "branch-lyon", "PT1H", start_s, end_s).series
    for metric in ("bytes", "pkts", "flows"):
        per_minute = minutes.values[:, minutes.column(metric)].reshape(24, 60)
        assert (per_minute.sum(axis=1) == hours.values[:, hours.column(metric)]).all()


def test_distinct_hosts_of_an_hour_are_more_than_a_minutes_and_fewer_than_all_together(client: Druid) -> None:
    start_s, end_s = MIDNIGHT_S - 2 * DAY_S, MIDNIGHT_S - DAY_S
    minutes = asked(client, "branch-lyon", "PT1M", start_s, end_s).series
    hours = asked(client, "branch-lyon", "PT1H", start_s, end_s).series
    per_minute = minutes.values[:, minutes.column("clients")].reshape(24, 60)
    hour = hours.values[:, hours.column("clients")]
    assert (hour >= per_minute.max(axis=1) - 1e-9).all()
    assert (hour < per_minute.sum(axis=1)).all()
    assert hour.max() < 26


def test_traffic_has_its_daily_and_weekly_rhythm(client: Druid) -> None:
    series = asked(client, "hq-madrid", "PT1H", MIDNIGHT_S - 28 * DAY_S, MIDNIGHT_S).series
    bytes_ = series.values[:, series.column("bytes")]
    hour, weekday = series.timestamps // 3600 % 24, (series.timestamps // DAY_S + 3) % 7
    busy = np.median(bytes_[(weekday < 5) & (hour == 10)])
    assert busy > 5 * np.median(bytes_[(weekday < 5) & (hour == 3)])
    assert busy > 2.5 * np.median(bytes_[(weekday >= 5) & (hour == 10)])


def test_metrics_move_together_and_noise_grows_with_the_level(client: Druid) -> None:
    series = asked(client, "branch-lyon", "PT1M", MIDNIGHT_S - 2 * DAY_S, MIDNIGHT_S - DAY_S).series
    bytes_, pkts, flows, _ = series.values.T
    assert np.corrcoef(bytes_, pkts)[0, 1] > 0.9
    assert np.corrcoef(bytes_, flows)[0, 1] > 0.6
    change = np.abs(np.diff(bytes_))
    level = bytes_[:-1]
    assert np.median(change[level > np.median(level)]) > 2 * np.median(change[level < np.median(level)])


def test_the_same_seed_gives_the_same_traffic_and_another_gives_other() -> None:
    answers = []
    for seed in (3, 3, 4):
        with Simulator(seed=seed, now=NOW_S) as simulator:
            answers.append(asked(Druid(Settings(simulator.url)), "branch-oslo", "PT1H", NOW_S - DAY_S, NOW_S))
    assert np.array_equal(answers[0].series.values, answers[1].series.values)
    assert not np.array_equal(answers[0].series.values, answers[2].series.values)


def test_traffic_does_not_depend_on_now() -> None:
    """The day before yesterday stays what it was."""
    answers = []
    for now_s in (NOW_S, NOW_S + 3 * DAY_S):
        with Simulator(seed=3, now=now_s) as simulator:
            druid = Druid(Settings(simulator.url))
            answers.append(asked(druid, "branch-lyon", "PT5M", MIDNIGHT_S - 2 * DAY_S, MIDNIGHT_S - DAY_S))
    assert np.array_equal(answers[0].series.values, answers[1].series.values)


def test_nothing_is_answered_after_now(client: Druid) -> None:
    parsed = asked(client, "hq-madrid", "PT1M", NOW_S - 3600, NOW_S + 7200)
    assert int(parsed.ends_s[-1]) == NOW_S // 60 * 60 + 60
    bytes_ = parsed.series.values[:, 0]
    assert 0 < bytes_[-1] < np.median(bytes_)  # half of the running minute has arrived
    assert parsed.ends_early_s is not None


def test_sensor_that_was_installed_later_has_no_events_before(client: Druid) -> None:
    parsed = asked(client, "new-office", "PT1H", MIDNIGHT_S - 5 * DAY_S, MIDNIGHT_S)
    assert parsed.empty.tolist() == [True] * 48 + [False] * 72


def test_labels_are_where_the_traffic_is_disturbed(generated: Simulator, client: Druid) -> None:
    labels = [label for label in generated.labels() if label.sensor == "hq-madrid"]
    assert len(labels) >= 5
    sensor = next(each for each in SENSORS if each.name == "hq-madrid")
    for label in labels:
        parsed = asked(client, label.sensor, "PT1M", label.start_s, label.end_s)
        expected = sensor.level_bytes * rhythm(sensor, parsed.series.timestamps // 60)
        ratio = float(np.nansum(parsed.series.values[:, 0]) / expected.sum())
        if label.kind == "outage":
            assert parsed.empty.all()
        elif label.factor < 1:
            assert ratio < 0.4
        else:
            assert ratio > 1.8


def test_an_outage_is_null_while_others_send(generated: Simulator, client: Druid) -> None:
    outage = next(label for label in generated.labels(sensor="branch-oslo"))
    assert outage.kind == "outage"
    query = training_query(
        "rb_flow", sensor_filter(outage.sensor), FLOW_AGGREGATIONS, "PT1M", outage.start_s - 60, outage.end_s + 60
    )
    rows = [row["result"] for row in client.query(query).rows]
    assert all(row == {"bytes": None, "pkts": None, "flows": None, "clients": 0.0} for row in rows[1:-1])
    assert rows[0]["bytes"] is not None
    assert rows[-1]["bytes"] is not None
    assert not asked(client, None, "PT1M", outage.start_s, outage.end_s).empty.any()


def test_a_culprit_is_the_top_contributor_while_it_lasts(generated: Simulator, client: Druid) -> None:
    label = next(label for label in generated.labels(sensor="hq-madrid") if label.kind == "exfiltration")
    query = {
        "queryType": "topN",
        "dataSource": "rb_flow",
        "granularity": "all",
        "intervals": [f"{_text(label.start_s)}/{_text(label.end_s)}"],
        "filter": sensor_filter(label.sensor),
        "dimension": "lan_ip",
        "metric": "bytes",
        "threshold": 3,
        "aggregations": [FLOW_AGGREGATIONS[0]],
    }
    top = client.query(query).rows[0]["result"]
    assert top[0]["bytes"] > 2 * top[1]["bytes"]


def test_quiet_sensor_has_no_labels_and_labels_can_be_asked_by_time(generated: Simulator) -> None:
    assert generated.labels(sensor="quiet-lab") == []
    every = generated.labels()
    assert len(every) > 20
    assert every == sorted(every, key=lambda label: (label.start_s, label.sensor))
    first = every[0]
    assert first in generated.labels(first.start_s, first.end_s)
    assert first not in generated.labels(first.end_s, NOW_S)
    assert {label.kind for label in every} >= {"spike", "scan", "exfiltration", "outage"}


def test_labels_of_a_day_lie_in_it_and_apart() -> None:
    for sensor in SENSORS:
        for day in range(20_000, 20_060):
            labels = labels_of(1, sensor, day)
            assert all(day * DAY_S <= each.start_s < each.end_s <= (day + 1) * DAY_S for each in labels)
            starts = [each.start_s for each in labels]
            assert all(b - a >= 3 * 3600 for a, b in zip(starts, starts[1:]))


def test_months_can_be_asked_without_holding_them(generated: Simulator) -> None:
    parsed = asked(Druid(Settings(generated.url, timeout_s=30.0)), None, "P1D", MIDNIGHT_S - 40 * DAY_S, MIDNIGHT_S)
    assert len(parsed.series) == 40
    assert generated.traffic is not None
    assert generated.traffic.cached_rows <= 1_500_000


def test_monitors_report_every_five_minutes(client: Druid) -> None:
    query: dict[str, Any] = training_query(
        "rb_monitor",
        {"type": "and", "fields": [sensor_filter("hq-madrid"), {**sensor_filter("cpu"), "dimension": "monitor"}]},
        [{"type": "doubleSum", "name": "value", "fieldName": "sum_value"}, {"type": "count", "name": "n"}],
        "PT1M",
        MIDNIGHT_S,
        MIDNIGHT_S + 3600,
    )
    values = [row["result"]["value"] for row in client.query(query).rows]
    assert [value is not None for value in values[:10]] == [True, *[False] * 4, True, *[False] * 4]
    assert all(0 < value <= 100 for value in values if value is not None)


def test_parts_of_the_traffic_add_up_to_it(client: Druid) -> None:
    whole = asked(client, "campus-lima", "PT1H", NOW_S - DAY_S, NOW_S).series.values[:, 0].sum()
    parts = 0.0
    for application in ("https", "dns", "smtp", "ssh", "smb", "ntp"):
        filter = {**sensor_filter(application), "dimension": "application_id_name"}
        both = {"type": "and", "fields": [sensor_filter("campus-lima"), filter]}
        query = training_query("rb_flow", both, FLOW_AGGREGATIONS, "PT1H", NOW_S - DAY_S, NOW_S)
        parts += np.nansum(parse_rows(client.query(query).rows, query).series.values[:, 0])
    assert parts == whole


def test_written_events_are_answered_as_the_traffic_they_were_written_from(
    generated: Simulator, client: Druid, tmp_path: Path
) -> None:
    assert generated.traffic is not None
    start_s = MIDNIGHT_S - DAY_S // 4
    counts = write_events(str(tmp_path), generated.traffic, start_s, NOW_S + 1, ("branch-oslo", "warehouse"))
    assert all(count > 100 for count in counts.values())
    with Simulator(events_dir=str(tmp_path)) as loaded:
        other = Druid(Settings(loaded.url))
        for step in ("PT1M", "PT1H"):
            one = asked(client, "branch-oslo", step, start_s, NOW_S)
            two = asked(other, "branch-oslo", step, start_s, NOW_S)
            assert np.array_equal(one.series.timestamps, two.series.timestamps)
            assert np.allclose(one.series.values, two.series.values, rtol=1e-12)
        assert other.newest("rb_monitor") == NOW_S // 300 * 300


def test_rows_left_out_of_an_answer_are_told_in_its_header(faulty: Simulator) -> None:
    druid = Druid(Settings(faulty.url))
    hole = (MIDNIGHT_S, MIDNIGHT_S + 3600)
    query = training_query("rb_flow", None, FLOW_AGGREGATIONS, "PT1H", MIDNIGHT_S - 7200, MIDNIGHT_S + 7200)
    assert len(druid.query(query).rows) == 4
    faulty.faults.uncovered = [hole]
    answer = druid.query(query)
    assert len(answer.rows) == 3
    assert answer.uncovered == (hole,)


def test_faults_can_be_kept_to_some_queries(faulty: Simulator) -> None:
    druid = Druid(Settings(faulty.url))
    faulty.faults.status = 500
    faulty.faults.only = lambda query: query["queryType"] == "timeBoundary"
    assert druid.newest("rb_flow") is None
    assert druid.top_sensors("rb_flow", 1, 1, NOW_S)


def test_routes_around_the_queries_answer_as_a_brokers(generated: Simulator) -> None:
    root = generated.url.replace("/druid/v2/", "")
    assert requests.get(f"{root}/status/health", timeout=5).json() is True
    assert requests.get(f"{root}/druid/v2/datasources", timeout=5).json() == ["rb_flow", "rb_monitor"]
    described = requests.get(f"{root}/druid/v2/datasources/rb_flow", timeout=5).json()
    assert "sensor_name" in described["dimensions"]
    assert "clients" in described["metrics"]
    assert requests.get(f"{root}/nothing", timeout=5).status_code == 404
    query = {"queryType": "timeBoundary", "dataSource": "rb_flow"}
    pretty = requests.post(f"{root}/druid/v2?pretty", json=query, timeout=5)
    assert pretty.json() == requests.post(generated.url, json=query, timeout=5).json()
    assert "\n" in pretty.text


def test_a_query_for_too_many_buckets_ends_as_it_ended_the_real_historical(generated: Simulator) -> None:
    query = training_query("rb_flow", None, FLOW_AGGREGATIONS, "none", NOW_S - 90 * DAY_S, NOW_S)
    answer = requests.post(generated.url, json=query, timeout=20)
    assert (answer.status_code, answer.json()["errorClass"]) == (500, "java.lang.OutOfMemoryError")


@pytest.mark.parametrize("content", [None, b"no gzip"])
def test_folder_without_events_is_a_configuration_error(tmp_path: Path, content: Optional[bytes]) -> None:
    if content is not None:
        (tmp_path / "rb_flow.jsonl.gz").write_bytes(content)
    with pytest.raises(ConfigError, match="events"):
        Simulator(events_dir=str(tmp_path))
    with pytest.raises(ConfigError, match="folder"):
        Simulator(events_dir=str(tmp_path / "absent"))


def _text(at_s: int) -> str:
    from outliers.times import instant_text

    return instant_text(at_s * 1000)
