"""`jobs list|show|retry|cancel` against a real Redis and a real worker."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from typing import Any

import pytest
from rq import Retry

from benchmarks.processes import wait_for
from outliers.errors import InvalidRequest, NotFound, QueueError
from outliers.train import jobs
from outliers.train.queue import TrainingJob, TrainingQueue, key_of
from tests.train.tasks import config_for

pytestmark = pytest.mark.trainer


def enqueue(queue: TrainingQueue, task: str, name: str, *args: Any) -> TrainingJob:
    return queue.rq.enqueue(
        task, args=(name, *args), job_id=f"{key_of(name)}-20260101T0000Z", unique=True, job_timeout=60,
        result_ttl=600, failure_ttl=600, retry=Retry(max=1), meta={"slot": "20260101T0000Z"},
    )  # fmt: skip


def verb(queue: TrainingQueue, capsys: Any, *argv: str) -> str:
    parser = ArgumentParser()
    jobs.add_arguments(parser)
    jobs.run_jobs(parser.parse_args(list(argv)), queue.config)
    return str(capsys.readouterr().out)


def test_list_shows_what_waits_and_what_failed_and_why(queue, start_worker, tmp_path, capsys):
    assert verb(queue, capsys, "list").strip() == "no jobs"
    enqueue(queue, "tests.train.tasks.crash", "bad, sensor", str(tmp_path / "log"))
    start_worker("--burst").wait(60)
    enqueue(queue, "tests.train.tasks.end_well", "waits")
    shown = verb(queue, capsys, "list")
    assert "bad, sensor" in shown and "SIGSEGV" in shown and "waiting" in shown
    listed = {job["name"]: job for job in json.loads(verb(queue, capsys, "list", "--json"))}
    assert listed["bad, sensor"]["tries"] == 2 and listed["bad, sensor"]["state"] == "failed"


def test_show_finds_a_job_by_name_and_by_id(queue, start_worker, capsys):
    job = enqueue(queue, "tests.train.tasks.end_well", "ünïcode sensor")
    start_worker("--burst").wait(60)
    assert jobs.show_job(queue, "ünïcode sensor") == jobs.show_job(queue, job.id)
    assert "published 1" in verb(queue, capsys, "show", job.id)
    with pytest.raises(NotFound):
        jobs.show_job(queue, "nobody:x")


def test_retry_gives_a_failed_job_all_its_tries_again(queue, start_worker, tmp_path):
    log = tmp_path / "log"
    enqueue(queue, "tests.train.tasks.crash", "s", str(log))
    start_worker("--burst").wait(60)
    assert jobs.retry_job(queue, "s").state == "waiting"
    with pytest.raises(InvalidRequest):
        jobs.retry_job(queue, "s")
    queue.config = config_for(queue.config.redis.port, retries=1)
    start_worker("--burst").wait(60)
    assert queue.outcome_counts() == {"failed": 2}
    assert jobs.show_job(queue, "s").state == "failed"


def test_cancel_of_a_waiting_job_leaves_an_outcome(queue):
    enqueue(queue, "tests.train.tasks.end_well", "s")
    assert jobs.cancel_job(queue, "s").state == "cancelled"
    assert queue.last_outcomes()["s"]["text"] == "failed: cancelled by hand"
    assert queue.active_keys() == set()
    with pytest.raises(InvalidRequest):
        jobs.cancel_job(queue, "s")


def test_cancel_of_a_running_job_ends_it_at_once_without_a_retry(queue, start_worker, tmp_path):
    log = tmp_path / "log"
    enqueue(queue, "tests.train.tasks.note_and_end", "s", 60.0, str(log))
    start_worker()
    wait_for(log.exists)
    wait_for(lambda: jobs.show_job(queue, "s").state == "running")
    jobs.cancel_job(queue, "s")
    wait_for(lambda: queue.last_outcomes().get("s"))
    assert queue.last_outcomes()["s"]["text"] == "failed: stopped by hand"
    assert queue.active_keys() == set()


def test_redis_that_is_away_is_one_sentence(redis_server, queue, capsys):
    redis_server.stop()
    with pytest.raises(QueueError, match="cannot be reached"):
        verb(queue, capsys, "list")
