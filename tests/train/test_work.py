"""Real training jobs in real workers, with Druid, the store or the worker going away in between."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
from benchmarks.processes import wait_for
from outliers.config import Config, load_config
from outliers.druid.simulator import Simulator
from outliers.store import open_store
from outliers.train import jobs, metrics
from outliers.train.queue import TASK, TrainingQueue, key_of

pytestmark = [pytest.mark.trainer, pytest.mark.slow]

SENSOR = "quiet-lab"


@pytest.fixture
def druid() -> Iterator[Simulator]:
    with Simulator(seed=5) as simulator:
        yield simulator


@pytest.fixture
def ini(redis_server, druid: Simulator, tmp_path: Path) -> str:
    path = tmp_path / "config.ini"
    path.write_text(
        f"""
        [Druid]
        druid_endpoint={druid.url}
        [Redis]
        rd_port={redis_server.port}
        [Store]
        directory={tmp_path / "store"}
        [Training]
        granularities=PT15M,PT1H
        days=7
        retries=1
        """.replace("        ", "")
    )
    return str(path)


@pytest.fixture
def config(ini: str) -> Config:
    return load_config(ini, {})


@pytest.fixture
def queue(config: Config) -> TrainingQueue:
    return TrainingQueue(config)


def ended(queue: TrainingQueue, name: str = SENSOR) -> str:
    return str(queue.last_outcomes().get(name, {}).get("text", ""))


def versions(config: Config, name: str = SENSOR) -> list[Any]:
    return open_store(config).versions(name)


def test_job_publishes_and_its_figures_are_seen_by_people_and_prometheus(queue, config, ini, start_worker):
    queue.enqueue(SENSOR, "20260101T0000Z")
    queue.enqueue("nobody", "20260101T0000Z")
    assert start_worker("--burst", config=ini).wait(120) == 0
    assert ended(queue).startswith("published ") and ended(queue, "nobody").startswith("refused: ")
    assert len(versions(config)) == 1
    shown = jobs.show_job(queue, SENSOR)
    assert shown.state == "ended" and shown.figures["points"]["PT15M"] > 600 and shown.figures["seconds"]["fit"] > 0
    text = metrics.text(queue).decode()
    assert 'outliers_training_outcomes_total{outcome="published"} 1.0' in text
    assert 'outliers_training_outcomes_total{outcome="refused"} 1.0' in text
    assert f'outliers_training_last_points{{granularity="PT15M",model="{SENSOR}"}}' in text
    assert f'outliers_training_last_threshold{{granularity="PT1H",model="{SENSOR}"}}' in text
    assert f'outliers_training_last_figure{{figure="validation_loss",model="{SENSOR}"}}' in text
    assert f'outliers_training_last_seconds{{model="{SENSOR}",step="fit"}}' in text
    assert "outliers_training_redis_up 1.0" in text


def test_druid_that_fails_for_a_while_puts_the_job_off(queue, config, druid, ini, start_worker):
    druid.faults.status = 500
    queue.enqueue(SENSOR, "s")
    start_worker(config=ini)
    wait_for(lambda: "again at" in jobs.table(jobs.list_jobs(queue)))
    assert "Druid failed" in jobs.show_job(queue, SENSOR).outcome
    assert ended(queue) == ""
    druid.faults.clear()
    wait_for(lambda: ended(queue))
    assert ended(queue).startswith("published ") and jobs.show_job(queue, SENSOR).tries == 2


def test_druid_that_keeps_failing_ends_the_job_and_it_can_be_retried(queue, config, druid, ini, start_worker):
    druid.faults.status = 500
    queue.enqueue(SENSOR, "s")
    start_worker(config=ini)
    wait_for(lambda: ended(queue))
    assert ended(queue).startswith("failed: Druid failed to answer the query")
    assert jobs.show_job(queue, SENSOR).tries == 2 and queue.rq.failed_job_registry.get_job_count() == 1
    druid.faults.clear()
    jobs.retry_job(queue, SENSOR)
    wait_for(lambda: ended(queue).startswith("published "))
    assert len(versions(config)) == 1


def test_query_that_druid_refuses_is_not_tried_again(queue, druid, ini, start_worker):
    druid.faults.status, druid.faults.error_class = 500, "com.fasterxml.jackson.databind.exc.InvalidTypeIdException"
    queue.enqueue(SENSOR, "s")
    start_worker(config=ini)
    wait_for(lambda: ended(queue))
    assert ended(queue).startswith("failed: Druid refuses the query")
    assert jobs.show_job(queue, SENSOR).tries == 1


def test_job_that_takes_too_long_fails_at_once_and_says_so(queue, druid, ini, start_worker, tmp_path):
    druid.faults.delay_s = 10
    queue.rq.enqueue(TASK, args=(SENSOR,), job_id=f"{key_of(SENSOR)}-s", job_timeout=2, failure_ttl=600)
    start_worker(config=ini)
    wait_for(lambda: ended(queue))
    assert ended(queue) == "failed: it took longer than [Training] job_timeout_s"
    assert (tmp_path / "worker-0.log").read_text().count(
        f'model={SENSOR} logger=outliers.train.queue msg="outcome: failed'
    ) == 1
    assert jobs.show_job(queue, SENSOR).tries == 1


def test_new_hole_is_tried_again_and_then_keeps_what_serves(queue, config, druid, ini, start_worker):
    import time

    queue.enqueue(SENSOR, "first")
    start_worker(config=ini)
    wait_for(lambda: ended(queue))
    druid.faults.only = lambda query: query["queryType"] == "timeseries"
    day_s = int(time.time()) // 86400 * 86400
    druid.faults.uncovered = [(day_s - 3 * 86400, day_s - 2 * 86400)]
    queue.enqueue(SENSOR, "second")
    wait_for(lambda: ended(queue).startswith("kept "))
    assert "Druid holds no data for" in ended(queue) and len(versions(config)) == 1
    assert jobs.show_job(queue, SENSOR).tries == 2


def test_worker_killed_in_mid_job_leaves_one_version(druid, queue, config, ini, start_worker):
    druid.faults.delay_s = 3  # a job of this size is over in less than a second
    first = start_worker(config=ini)
    queue.enqueue(SENSOR, "s")
    wait_for(lambda: jobs.show_job(queue, SENSOR).progress.get("step") == "fetch")
    os.kill(first.pid, signal.SIGKILL)
    druid.faults.clear()
    second = start_worker(config=ini)
    wait_for(lambda: ended(queue))
    assert ended(queue).startswith("published ") and len(versions(config)) == 1
    assert queue.outcome_counts() == {"published": 1}
    assert f"-{second.pid}-" in jobs.show_job(queue, SENSOR).worker


def test_metrics_count_workers_alive_also_when_redis_forgot_them(queue, ini, start_worker):
    def workers() -> float:
        line = next(
            line for line in metrics.text(queue).decode().splitlines() if line.startswith("outliers_training_workers")
        )
        return float(line.split()[1])

    worker = start_worker(config=ini)
    wait_for(lambda: workers() == 1)
    queue.connection.flushall()
    wait_for(lambda: workers() == 1)
    queue.connection.sadd("rq:workers:rb-aioutliers", "rq:worker:died-long-ago")
    assert workers() == 1
    worker.terminate()
    assert worker.wait(30) == 0
    assert workers() == 0


def test_metrics_say_that_redis_is_away(queue, redis_server):
    redis_server.stop()
    assert metrics.text(queue).decode().splitlines()[-1] == "outliers_training_redis_up 0.0"


def test_metrics_are_served_over_http_and_a_taken_port_is_no_reason_to_stop(queue):
    import requests

    port = metrics.serve(queue, "127.0.0.1", 0)
    assert port and "outliers_training_jobs" in requests.get(f"http://127.0.0.1:{port}/metrics", timeout=10).text
    assert metrics.serve(queue, "127.0.0.1", port) is None
