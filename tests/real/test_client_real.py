"""The Druid client on a real Druid: refusals, the clock, first events, discovery, days that are not there."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest
import requests

from outliers.config import Config
from outliers.druid.client import Druid
from outliers.errors import DruidRefused, DruidTimeout
from tests.real.conftest import PREFIX, SEED, RandomEvents, on_random_events
from tests.real.random_queries import Queries

FLOW = f"{PREFIX}rb_flow"
DAY_S = 86400


@pytest.fixture(scope="module")
def client(random_events: RandomEvents) -> Iterator[Druid]:
    druid = Druid(replace(Config().druid, endpoint=random_events.url))
    yield druid
    druid.close()


@pytest.fixture(scope="module")
def events(random_events: RandomEvents) -> list[dict[str, Any]]:
    """The events themselves, with `at_s`, the minute that Druid keeps of their time."""
    with gzip.open(random_events.folder / "rb_flow.jsonl.gz", "rt") as lines:
        found = [json.loads(line) for line in lines]
    for event in found:
        event["at_s"] = int(datetime.fromisoformat(event["timestamp"].replace("Z", "+00:00")).timestamp()) // 60 * 60
    return found


def test_mistakes_in_a_query_are_refusals_with_druids_class(client: Druid, random_events: RandomEvents) -> None:
    queries = Queries(SEED + 2)
    judged: Counter[str] = Counter()
    while sum(judged.values()) < 150:
        query = queries.bad()
        if not isinstance(query, dict) or not isinstance(query.get("context", {}), dict) or query.get("context"):
            continue  # no JSON leaves the client, and it writes the context itself
        text = on_random_events(json.dumps(query))
        answer = requests.post(random_events.url, text, headers={"Content-Type": "application/json"}, timeout=30)
        told = answer.json()["errorClass"] if answer.status_code != 200 else "fine after all"
        if not told.startswith(("com.fasterxml.jackson.", "java.lang.IllegalArgument")):
            continue  # Druid stumbles over it itself, or does not mind
        with pytest.raises(DruidRefused) as refused:
            client.query(json.loads(text))
        assert told in str(refused.value)
        judged[told] += 1
    assert len(judged) > 3


def test_a_query_that_takes_too_long_is_a_time_out(client: Druid) -> None:
    query = {
        "queryType": "timeseries",
        "dataSource": FLOW,
        "granularity": "second",
        "intervals": "2026-03-07/2027-01-02",
        "aggregations": [{"type": "hyperUnique", "name": "clients", "fieldName": "clients"}],
    }
    with pytest.raises(DruidTimeout):
        client.query(query, timeout_s=0.02)


def test_the_clock_is_the_newest_event_of_any_sensor(client: Druid, events: list[dict[str, Any]]) -> None:
    assert client.newest(FLOW) == max(event["at_s"] for event in events)
    assert client.newest("no_such_source") is None


@pytest.mark.parametrize("sensor", ["hq-lyon", 'odd, "name" ñ', "nobody"])
def test_the_first_event_is_the_filters_own(sensor: str, client: Druid, events: list[dict[str, Any]]) -> None:
    own = [event["at_s"] for event in events if event.get("sensor_name") == sensor]
    first = client.first_event(FLOW, {"type": "selector", "dimension": "sensor_name", "value": sensor})
    assert first == (min(own) if own else None)


def test_discovery_finds_the_sensors_of_the_last_days_by_their_events(
    client: Druid, events: list[dict[str, Any]]
) -> None:
    newest = max(event["at_s"] for event in events)
    for days in (1, 400):
        counted: Counter[str] = Counter()
        for event in events:
            if event["at_s"] >= newest + 60 - days * DAY_S and event.get("sensor_name"):
                counted[event["sensor_name"]] += event.get("events", 0)
        assert client.top_sensors(FLOW, days, 3) == [name for name, _ in counted.most_common(3)]


def test_days_without_a_segment_are_told(client: Druid) -> None:
    query = {
        "queryType": "timeseries",
        "dataSource": FLOW,
        "granularity": "hour",
        "intervals": "2026-06-28/2026-07-04",
        "aggregations": [{"type": "count", "name": "n"}],
    }
    answer = client.query(query)
    told = [[datetime.utcfromtimestamp(each).isoformat() for each in pair] for pair in answer.uncovered]
    assert told == [["2026-06-28T00:00:00", "2026-06-30T00:00:00"], ["2026-07-02T00:00:00", "2026-07-04T00:00:00"]]
    assert {row["timestamp"][:10] for row in answer.rows} == {"2026-06-30", "2026-07-01"}
