"""The executor's reading of Druid: the buckets it expects are the buckets that a real Druid answers."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import requests

from outliers.druid.response import parse_rows
from outliers.errors import Unservable
from outliers.series import Granularity
from outliers.times import DAY_S, instants_ms
from tests.real.conftest import SEED, RandomEvents, on_random_events
from tests.real.random_queries import Queries, nominal_s


def test_buckets_of_random_granularities_are_druids_own(random_events: RandomEvents) -> None:
    queries = Queries(SEED + 1)
    wrong: list[str] = []
    judged = 0
    while judged < 300:
        query = queries.timeseries()
        query["intervals"] = queries.interval(nominal_s(query["granularity"]))
        try:
            Granularity.parse(query["granularity"])
        except Unservable:
            continue
        answer = requests.post(
            random_events.url,
            on_random_events(json.dumps(query)),
            headers={"Content-Type": "application/json"},
            timeout=30,
        )
        rows = [each for each in answer.json() if each["timestamp"] is not None]
        if len(rows) < 2:
            continue
        judged += 1
        difference = difference_of(query, rows)
        if difference:
            wrong.append(f"{json.dumps(query['granularity'])} over {query['intervals']}: {difference}")
    assert not wrong, f"{len(wrong)} of {judged}\n" + "\n".join(wrong[:15])


def difference_of(query: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    """Say what the rows have that their grid has not; "" where they agree."""
    parsed = parse_rows(rows, query)
    at_s = instants_ms([each["timestamp"] for each in rows]) // 1000
    expected_s = parsed.series.timestamps[parsed.row_position]
    if not np.array_equal(at_s, expected_s):
        where = int(np.flatnonzero(at_s != expected_s)[0])
        return f"row {rows[where]['timestamp']} is expected at {expected_s[where]}, {at_s[where]} was answered"
    ordered = np.sort(at_s)
    ends_s = np.sort(parsed.ends_s[parsed.row_position])
    if np.any(ends_s[:-1] > ordered[1:]):
        return "a bucket is thought to end after the next one starts"
    # A segment (a day) has empty buckets only between its own first and last event.
    whole = "context" not in query and "limit" not in query and ordered[0] // DAY_S == ordered[-1] // DAY_S
    if whole and len(rows) != len(parsed.series):
        return f"{len(parsed.series)} buckets are expected, {len(rows)} were answered"
    return ""
