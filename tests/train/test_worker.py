"""The worker against a real Redis: dying, being cut off, being stopped; each job ends once, with one outcome."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import psutil
import pytest
from rq import Retry
from rq.job import JobStatus

from benchmarks.processes import wait_for
from outliers.train.queue import TrainingJob, TrainingQueue, key_of

pytestmark = pytest.mark.trainer


def enqueue(queue: TrainingQueue, task: str, name: str, *args: Any, retries: int = 3) -> TrainingJob:
    return queue.rq.enqueue(
        task, args=(name, *args), job_id=f"{key_of(name)}-s", unique=True, job_timeout=60, result_ttl=600,
        failure_ttl=600, retry=Retry(max=retries), meta={"slot": "s"},
    )  # fmt: skip


def horse_of(worker: Any) -> psutil.Process:
    return psutil.Process(worker.pid).children()[0]


def lines(log: Path) -> list[str]:
    return log.read_text().splitlines() if log.exists() else []


def published(log: Path) -> int:
    return sum(line.startswith("publish") for line in lines(log))


def test_job_that_ends_well_leaves_one_outcome(queue, start_worker):
    job = enqueue(queue, "tests.train.tasks.end_well", "sensor a")
    assert start_worker("--burst").wait(60) == 0
    assert job.get_status() is JobStatus.FINISHED
    assert queue.last_outcomes()["sensor a"]["text"] == "published 1"
    assert queue.outcome_counts() == {"published": 1}
    assert queue.active_keys() == set()


def test_killed_worker_has_its_job_taken_over_and_published_once(queue, start_worker, tmp_path):
    log = tmp_path / "log"
    first = start_worker()
    enqueue(queue, "tests.train.tasks.note_and_end", "s", 3.0, str(log))
    wait_for(lambda: lines(log))
    horse = horse_of(first)
    second = start_worker()
    os.kill(first.pid, signal.SIGKILL)
    wait_for(lambda: not horse.is_running() or horse.status() == psutil.STATUS_ZOMBIE, 5)
    wait_for(lambda: queue.last_outcomes().get("s"))
    assert [line.split()[0] for line in lines(log)] == ["begin", "begin", "publish"]
    assert lines(log)[-1] == f"publish {second.pid}"
    assert queue.outcome_counts() == {"published": 1}


def test_stopped_node_that_wakes_up_later_publishes_nothing(queue, start_worker, tmp_path):
    log = tmp_path / "log"
    first = start_worker()
    job = enqueue(queue, "tests.train.tasks.note_and_end", "s", 2.0, str(log))
    wait_for(lambda: lines(log))
    horse = horse_of(first)
    for pid in (first.pid, horse.pid):
        os.kill(pid, signal.SIGSTOP)
    second = start_worker()
    wait_for(lambda: queue.last_outcomes().get("s"))
    for pid in (horse.pid, first.pid):
        os.kill(pid, signal.SIGCONT)
    wait_for(lambda: not horse.is_running() or horse.status() == psutil.STATUS_ZOMBIE)
    wait_for(lambda: queue.active_keys() == set())
    assert published(log) == 1 and lines(log)[-1] == f"publish {second.pid}"
    assert queue.outcome_counts() == {"published": 1}
    job.refresh()
    assert job.get_status() is JobStatus.FINISHED
    assert job.outcome["text"] == "published 1", "the one that woke up wrote over what the other had written"


def test_node_cut_off_from_redis_stops_and_publishes_nothing(queue, start_worker, tmp_path, wire):
    log = tmp_path / "log"
    cut_off = start_worker(port=wire.port)
    enqueue(queue, "tests.train.tasks.note_and_end", "s", 6.0, str(log))
    wait_for(lambda: lines(log))
    horse = horse_of(cut_off)
    second = start_worker()
    wire.cut()
    wait_for(lambda: queue.last_outcomes().get("s"))
    wire.mend()
    wait_for(lambda: not horse.is_running() or horse.status() == psutil.STATUS_ZOMBIE)
    enqueue(queue, "tests.train.tasks.end_well", "t")
    wait_for(lambda: queue.last_outcomes().get("t"))
    assert published(log) == 1 and lines(log)[-1] == f"publish {second.pid}"
    assert queue.outcome_counts() == {"published": 2} and cut_off.poll() is None


def test_job_whose_process_crashes_fails_with_a_reason_after_its_retries(queue, start_worker, tmp_path):
    log = tmp_path / "log"
    job = enqueue(queue, "tests.train.tasks.crash", "s", str(log), retries=2)
    start_worker()
    wait_for(lambda: queue.last_outcomes().get("s"))
    assert len(lines(log)) == 3
    assert "SIGSEGV" in queue.last_outcomes()["s"]["text"]
    assert queue.last_outcomes()["s"]["text"].startswith("failed: ")
    assert job.get_status() is JobStatus.FAILED and job.id in queue.rq.failed_job_registry
    assert queue.outcome_counts() == {"failed": 1}


def test_workers_that_die_each_time_leave_a_failed_job_with_a_reason(queue, start_worker, tmp_path):
    log = tmp_path / "log"
    enqueue(queue, "tests.train.tasks.note_and_end", "s", 30.0, str(log), retries=1)
    for times in (1, 2):
        worker = start_worker()
        wait_for(lambda times=times: len(lines(log)) == times)
        os.kill(worker.pid, signal.SIGKILL)
    start_worker()
    wait_for(lambda: queue.last_outcomes().get("s"))
    assert queue.last_outcomes()["s"]["text"] == "failed: each worker that ran it died or was cut off from Redis"


def test_redis_restart_in_mid_job_costs_nothing_when_it_kept_its_data(queue, redis_server, start_worker, tmp_path):
    log = tmp_path / "log"
    worker = start_worker()
    enqueue(queue, "tests.train.tasks.note_and_end", "s", 4.0, str(log))
    wait_for(lambda: lines(log))
    redis_server.stop()
    redis_server.start()
    wait_for(lambda: queue.last_outcomes().get("s"))
    assert [line.split()[0] for line in lines(log)] == ["begin", "publish"]
    assert worker.poll() is None


def test_redis_that_lost_its_memory_keeps_the_job_from_publishing(queue, redis_server, start_worker, tmp_path):
    log = tmp_path / "log"
    worker = start_worker()
    enqueue(queue, "tests.train.tasks.note_and_end", "s", 4.0, str(log))
    wait_for(lambda: lines(log))
    horse = horse_of(worker)
    queue.connection.flushall()
    wait_for(lambda: not horse.is_running() or horse.status() == psutil.STATUS_ZOMBIE)
    enqueue(queue, "tests.train.tasks.end_well", "t")
    wait_for(lambda: queue.last_outcomes().get("t"))
    assert published(log) == 0
    assert queue.outcome_counts() == {"published": 1} and worker.poll() is None


def test_redis_gone_for_longer_than_the_lease_ends_the_job_and_it_runs_again(
    queue, redis_server, start_worker, tmp_path
):
    log = tmp_path / "log"
    worker = start_worker()
    enqueue(queue, "tests.train.tasks.note_and_end", "s", 20.0, str(log))
    wait_for(lambda: lines(log))
    horse = horse_of(worker)
    redis_server.stop()
    wait_for(lambda: not horse.is_running() or horse.status() == psutil.STATUS_ZOMBIE, 40)
    redis_server.start()
    wait_for(lambda: queue.last_outcomes().get("s"), 90)
    assert [line.split()[0] for line in lines(log)] == ["begin", "begin", "publish"]
    assert worker.poll() is None


def test_sigterm_lets_a_short_job_end(queue, start_worker, tmp_path):
    log = tmp_path / "log"
    worker = start_worker()
    enqueue(queue, "tests.train.tasks.note_and_end", "s", 1.5, str(log))
    wait_for(lambda: lines(log))
    os.killpg(worker.pid, signal.SIGTERM)
    assert worker.wait(30) == 0
    assert queue.last_outcomes()["s"]["text"] == "published 1"


def test_sigterm_gives_a_long_job_back_after_a_bound(queue, start_worker, tmp_path):
    log = tmp_path / "log"
    worker = start_worker()
    job = enqueue(queue, "tests.train.tasks.note_and_end", "s", 50.0, str(log), retries=1)
    wait_for(lambda: lines(log))
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(30) == 0
    job.refresh()
    assert job.get_status() is JobStatus.QUEUED and job.retries_left == 1
    assert queue.last_outcomes() == {}


def test_worker_killed_between_taking_and_beginning_a_job_loses_nothing(queue, start_worker):
    enqueue(queue, "tests.train.tasks.end_well", "s")
    queue.connection.lmove(queue.rq.key, queue.rq.intermediate_queue_key)  # what a worker does first
    start_worker()
    wait_for(lambda: queue.last_outcomes().get("s"))
    assert queue.last_outcomes()["s"]["text"] == "published 1"
    assert queue.connection.llen(queue.rq.intermediate_queue_key) == 0


def test_job_that_is_in_the_queue_twice_runs_once(queue, start_worker, tmp_path):
    log = tmp_path / "log"
    job = enqueue(queue, "tests.train.tasks.note_and_end", "s", 0.2, str(log))
    queue.connection.rpush(queue.rq.key, job.id)
    assert start_worker("--burst").wait(60) == 0
    assert published(log) == 1 and queue.outcome_counts() == {"published": 1}
    assert queue.active_keys() == set()
