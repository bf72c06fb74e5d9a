"""More requests than can be worked on: turned away at once with 503, nothing lost, and answered again afterwards."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import requests

from outliers.druid.simulator import Simulator
from tests.web.asking import flow_query
from tests.web.executor import Executor

THREADS, QUEUE, CLIENTS, SLOW_S = 2, 4, 30, 3.0
SERVER = {"outliers_server_workers": 1, "outliers_server_threads": THREADS}


def question(number: int) -> dict:
    """One of an hour that no other asks, so that they do not share an answer."""
    query = flow_query(f"2026-05-20T10:{number:02d}:00Z", f"2026-05-20T11:{number:02d}:00Z", sensor="branch-lyon")
    return {"query": query, "lead_in": "none"}


def test_requests_beyond_the_queue_are_turned_away_at_once_and_none_is_lost(tmp_path: Path, simulator: Simulator):
    got: list[tuple[int, float, requests.Response]] = []

    def ask(number: int) -> None:
        began = time.monotonic()
        answer = requests.post(f"{executor.url}/calculate", json=question(number), timeout=60)
        got.append((number, time.monotonic() - began, answer))

    with Executor(tmp_path, simulator.url, OutliersServerProduction=SERVER, Limits={"queue": QUEUE}) as executor:
        assert requests.post(f"{executor.url}/calculate", json=question(59)).status_code == 200
        simulator.faults.delay_s = SLOW_S
        asking = [threading.Thread(target=ask, args=(number,)) for number in range(CLIENTS)]
        for thread in asking:
            thread.start()
        time.sleep(1.0)
        began = time.monotonic()
        assert requests.get(f"{executor.url}/health").json() == {"status": "ok"}
        assert requests.get(f"{executor.url}/ready").status_code == 200
        other = requests.post(f"{executor.url}/api/v1/ip_identifier", json={"outliers": [], "all_ips_data": {}})
        assert other.status_code == 503 and "too many requests" in other.json()["error"].lower()
        assert time.monotonic() - began < SLOW_S / 3, "who looks after the service need not wait for its work"
        for thread in asking:
            thread.join(60)
        simulator.faults.clear()
        shed = [(seconds, answer) for _, seconds, answer in got if answer.status_code == 503]
        done = [(number, answer) for number, _, answer in got if answer.status_code == 200]
        assert len(got) == CLIENTS == len(shed) + len(done), "each was answered, by one or the other"
        assert THREADS + QUEUE <= len(done) <= THREADS + QUEUE + 2
        for seconds, answer in shed:
            assert seconds < SLOW_S, "it is told before any thread is free"
            assert int(answer.headers["Retry-After"]) > 0
            assert answer.json()["status"] == "error" and "too many requests" in answer.json()["msg"].lower()
        for number, answer in done:
            assert [row["timestamp"][14:16] for row in answer.json()["prediction"][:1]] == [f"{number:02d}"]
        again = [requests.post(f"{executor.url}/calculate", json=question(number)) for number in range(CLIENTS)]
        assert [answer.status_code for answer in again] == [200] * CLIENTS
        assert f"outliers_shed_total {len(shed) + 1}.0" in requests.get(f"{executor.url}/metrics").text
        assert executor.end() == 0


def test_a_queue_of_none_still_lets_every_free_thread_work(tmp_path: Path, simulator: Simulator):
    with Executor(tmp_path, simulator.url, OutliersServerProduction=SERVER, Limits={"queue": 0}) as executor:
        for number in range(20):
            assert requests.post(f"{executor.url}/calculate", json=question(number)).status_code == 200
