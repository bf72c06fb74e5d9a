"""Workers that die, are restarted and are drained; one socket, and no connection that is reset."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import requests

from outliers.druid.simulator import Simulator
from tests.web.asking import flow_query, rows
from tests.web.executor import ROOT, Executor

BODY = {"data": rows([float(i % 7) for i in range(60)])}


class Load:
    """Clients that ask without a pause until told to stop; what went wrong is in `failures`."""

    def __init__(self, url: str, clients: int, keep_alive: bool, until_refused: bool = False) -> None:
        self.url, self.keep_alive, self.until_refused = url, keep_alive, until_refused
        self.answered, self.failures = 0, []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(clients)]
        for thread in self._threads:
            thread.start()

    def _ask(self) -> None:
        session = requests.Session()
        while not self._stop.is_set():
            try:
                asked = session if self.keep_alive else requests
                answer = asked.post(f"{self.url}/calculate", json=BODY, timeout=30)
                if answer.status_code != 200:
                    self.failures.append(answer.text)
                self.answered += 1
            except requests.RequestException as error:  # noqa: PERF203
                if self.until_refused and "refused" in str(error).lower():
                    return
                self.failures.append(repr(error))

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(40)


def wait_for(condition, seconds: float = 30.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)


def test_a_worker_that_dies_is_replaced_and_counted(tmp_path: Path):
    with Executor(tmp_path) as executor:
        before = executor.workers()
        assert len(before) == 2
        os.kill(before[0], signal.SIGKILL)
        wait_for(lambda: len(executor.workers()) == 2 and executor.workers() != before)
        executor.wait_until_ready()
        assert all(requests.post(f"{executor.url}/calculate", json=BODY).status_code == 200 for _ in range(20))
        wait_for(lambda: "outliers_worker_deaths_total 1.0" in requests.get(f"{executor.url}/metrics").text)
        assert executor.end() == 0


@pytest.mark.parametrize("keep_alive", [True, False])
def test_a_worker_that_is_killed_under_load_costs_only_what_it_had_in_hand(tmp_path: Path, keep_alive: bool):
    clients = 6
    with Executor(tmp_path) as executor:
        load = Load(executor.url, clients=clients, keep_alive=keep_alive)
        time.sleep(0.5)
        killed = executor.workers()[0]
        os.kill(killed, signal.SIGKILL)
        wait_for(lambda: killed not in executor.workers() and len(executor.workers()) == 2)
        before, lost = load.answered, len(load.failures)
        wait_for(lambda: load.answered > before + 100)
        load.stop()
        assert lost <= clients and len(load.failures) == lost, load.failures
        assert all("Error" in failure for failure in load.failures), "no answer was wrong, some never came"


@pytest.mark.parametrize("keep_alive", [True, False])
def test_sigterm_resets_no_connection(tmp_path: Path, keep_alive: bool):
    """TRAPS 19: a worker that was recycled reset connections in flight."""
    with Executor(tmp_path) as executor:
        load = Load(executor.url, clients=4, keep_alive=keep_alive, until_refused=True)
        time.sleep(1.0)
        assert executor.end() == 0
        load.stop()
        assert load.answered > 20 and load.failures == []


def test_one_worker_that_is_told_to_end_resets_no_connection(tmp_path: Path):
    with Executor(tmp_path) as executor:
        load = Load(executor.url, clients=4, keep_alive=False)
        time.sleep(0.5)
        before = executor.workers()
        os.kill(before[0], signal.SIGTERM)
        wait_for(lambda: before[0] not in executor.workers() and len(executor.workers()) == 2)
        time.sleep(1.0)
        load.stop()
        assert load.answered > 20 and load.failures == []


def test_what_is_in_flight_is_answered_before_the_end(tmp_path: Path, simulator: Simulator):
    with Executor(tmp_path, simulator.url) as executor:
        simulator.faults.delay_s = 1.5
        got: list = []
        question = {"query": flow_query("2026-05-20T10:00:00Z", "2026-05-20T11:00:00Z"), "lead_in": "none"}
        asking = threading.Thread(
            target=lambda: got.append(requests.post(f"{executor.url}/calculate", json=question, timeout=30))
        )
        asking.start()
        time.sleep(0.5)
        code = executor.end()
        asking.join()
        simulator.faults.clear()
        assert code == 0 and got[0].status_code == 200 and len(got[0].json()["prediction"]) == 60
        assert got[0].headers["Connection"] == "close"


def test_workers_end_when_the_supervisor_is_killed(tmp_path: Path):
    with Executor(tmp_path) as executor:
        workers = executor.workers()
        assert len(workers) == 2 and executor.process is not None
        executor.process.kill()
        executor.process.wait()
        wait_for(lambda: not any(Path(f"/proc/{pid}/cmdline").exists() for pid in workers))


def test_an_address_that_is_taken_is_one_line_and_usage(tmp_path: Path):
    with Executor(tmp_path) as executor:
        second = subprocess.run(
            [sys.executable, "-m", "outliers", "serve", "--config", str(executor.config)],
            capture_output=True, text=True, timeout=60, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
    assert second.returncode == 2 and "cannot listen" in second.stderr and "Traceback" not in second.stderr


def test_an_executor_without_anything_starts_and_answers(tmp_path: Path):
    """No Redis, no NTP, no trainer, no store that answers, and a mirror that cannot be written."""
    unreachable = {"s3_hostname": "http://127.0.0.1:9", "s3_bucket": "b", "s3_public_key": "k", "s3_private_key": "s"}
    (tmp_path / "file").write_text("")
    with Executor(tmp_path, AWS=unreachable, Store={"kind": "s3", "mirror": tmp_path / "file" / "x"}) as executor:
        assert requests.post(f"{executor.url}/calculate", json=BODY).status_code == 200
        text = requests.get(f"{executor.url}/metrics").text
        assert 'outliers_store_refreshes_total{outcome="failed"}' in text
        assert executor.end() == 0
