"""The simulated broker beside a real one, on the same random events: what one answers the other must answer too."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import requests

from tests.real.conftest import SEED, RandomEvents, on_random_events
from tests.real.random_parts import counts_distinct, named
from tests.real.random_queries import Queries
from tests.real.servers.process import Process, free_ports, wait_until
from tests.real.system import ROOT


@dataclass(frozen=True)
class Both:
    """Where to ask, on either side."""

    real: str
    simulated: str

    def ask(self, query: Any) -> tuple[requests.Response, requests.Response]:
        text = query if isinstance(query, str) else json.dumps(query)
        headers = {"Content-Type": "application/json"}
        return (
            requests.post(self.real, on_random_events(text).encode(), headers=headers, timeout=30),
            requests.post(self.simulated, text.encode(), headers=headers, timeout=30),
        )


@pytest.fixture(scope="module")
def both(random_events: RandomEvents, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    (port,) = free_ports(1)
    folder = random_events.folder
    command = [sys.executable, "-m", "outliers", "simulate", "--port", str(port), "--events", str(folder)]
    simulator = Process(command, tmp_path_factory.mktemp("log") / "simulator.log", cwd=ROOT)
    simulator.start()
    url = f"http://127.0.0.1:{port}/druid/v2/"
    try:
        wait_until(lambda: answers(url), 60, "the simulated broker", [simulator])
        yield Both(random_events.url, url)
    finally:
        simulator.close()


def answers(url: str) -> bool:
    try:
        return requests.post(url, json={"queryType": "timeBoundary", "dataSource": "rb_flow"}, timeout=5).ok
    except requests.ConnectionError:
        return False


def distinct_counts(query: Any) -> set[str]:
    """Name what in a row comes from a distinct count, which both estimate."""
    names = {named(each) for each in query.get("aggregations", ()) if counts_distinct(each)}
    for post in query.get("postAggregations", ()):
        if names.intersection(each["fieldName"] for each in (post, *post.get("fields", ())) if "fieldName" in each):
            names.add(post["name"])
    return names


def same(real: Any, simulated: Any, estimated: set[str], key: str = "") -> bool:
    """Compare two answers: texts and whole numbers exactly, floats as far as the order of a sum allows."""
    if isinstance(real, dict) and isinstance(simulated, dict):
        return real.keys() == simulated.keys() and all(
            same(value, simulated[name], estimated, name) for name, value in real.items()
        )
    if isinstance(real, list) and isinstance(simulated, list):
        return len(real) == len(simulated) and all(same(a, b, estimated, key) for a, b in zip(real, simulated))
    if isinstance(real, float) and isinstance(simulated, float):
        return math.isclose(real, simulated, rel_tol=0.08 if key in estimated else 1e-9, abs_tol=1e-9)
    return type(real) is type(simulated) and bool(real == simulated)


def orders_by_estimate(query: Any) -> bool:
    order = query.get("metric")
    while isinstance(order, dict):
        order = order.get("metric")
    return order in distinct_counts(query)


def test_random_queries_are_answered_by_the_simulator_as_by_druid(both: Both) -> None:
    queries = Queries(SEED)
    wrong, asked = [], 0
    while asked < 600:
        query = queries.good()
        if query["queryType"] == "topN" and orders_by_estimate(query):
            continue
        asked += 1
        real, simulated = both.ask(query)
        if real.status_code != simulated.status_code:
            wrong.append((query, real.text[:600], simulated.text[:600]))
        elif not same(real.json(), simulated.json(), distinct_counts(query)):
            wrong.append((query, *first_difference(real.json(), simulated.json(), distinct_counts(query))))
    assert not wrong, report(wrong, asked)


def test_random_mistakes_are_refused_by_the_simulator_as_by_druid(both: Both) -> None:
    queries = Queries(SEED)
    wrong = []
    for _ in range(300):
        query = queries.bad()
        real, simulated = both.ask(query)
        if refusal(real) != refusal(simulated):
            wrong.append((query, f"{refusal(real)} {real.text[:300]}", f"{refusal(simulated)} {simulated.text[:300]}"))
    assert not wrong, report(wrong, 300)


def test_days_without_a_segment_are_told_by_the_simulator_as_by_druid(both: Both) -> None:
    query = {
        "queryType": "timeseries",
        "dataSource": "rb_flow",
        "granularity": "day",
        "intervals": ["2026-03-01/2026-04-10", "2026-06-29/2026-07-05"],
        "aggregations": [{"type": "count", "name": "n"}],
        "context": {"uncoveredIntervalsLimit": 100},
    }
    real, simulated = both.ask(query)
    told = [json.loads(each.headers["X-Druid-Response-Context"]) for each in (real, simulated)]
    assert told[0]["uncoveredIntervals"] == told[1]["uncoveredIntervals"] != []
    assert told[0].get("uncoveredIntervalsOverflowed") == told[1].get("uncoveredIntervalsOverflowed")
    assert real.json() == simulated.json()


def refusal(answer: requests.Response) -> tuple[int, str]:
    """What a client can tell a refusal by."""
    body = answer.json() if answer.status_code != 200 else {}
    return answer.status_code, str(body.get("errorClass")) if isinstance(body, dict) else ""


def first_difference(real: Any, simulated: Any, estimated: set[str]) -> tuple[str, str]:
    if isinstance(real, list) and isinstance(simulated, list) and len(real) == len(simulated):
        for a, b in zip(real, simulated):
            if not same(a, b, estimated):
                return json.dumps(a)[:600], json.dumps(b)[:600]
    size = [f"{len(each)} rows: " if isinstance(each, list) else "" for each in (real, simulated)]
    return size[0] + json.dumps(real)[:400], size[1] + json.dumps(simulated)[:400]


def report(wrong: list[tuple[Any, str, str]], asked: int) -> str:
    shown = "\n\n".join(
        f"{json.dumps(query)}\n  druid:     {real}\n  simulator: {simulated}" for query, real, simulated in wrong[:12]
    )
    return f"{len(wrong)} of {asked} answers differ\n{shown}"
