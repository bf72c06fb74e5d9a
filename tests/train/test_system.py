"""The trainer whole: two schedulers, three workers, a real Redis and an S3 server, which go away in mid-job."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("moto.server", reason="no S3 server: moto is not installed")
import boto3
from moto.server import ThreadedMotoServer

from benchmarks.processes import free_port, wait_for
from outliers.config import load_config
from outliers.druid.simulator import Simulator
from outliers.store import open_store
from outliers.train.jobs import list_jobs
from outliers.train.queue import TrainingQueue

pytestmark = [pytest.mark.trainer, pytest.mark.slow]

NOW_S = 1_764_165_600  # fixed, so that every run judges the same held-out time
HEALTHY = ("hq-madrid", "branch-lyon", "campus-lima", "quiet-lab", "warehouse", "new-office")


class S3:
    """An S3 server that keeps what it holds over stop() and start()."""

    def __init__(self) -> None:
        logging.getLogger("werkzeug").setLevel(logging.WARNING)
        self.port = free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        self.start()
        boto3.client(
            "s3", endpoint_url=self.address, aws_access_key_id="a", aws_secret_access_key="b", region_name="us-east-1"
        ).create_bucket(Bucket="models")

    def start(self) -> None:
        self._server = ThreadedMotoServer(ip_address="127.0.0.1", port=self.port, verbose=False)
        self._server.start()

    def stop(self) -> None:
        self._server.stop()


@pytest.fixture
def s3() -> Iterator[S3]:
    server = S3()
    yield server
    server.stop()


@pytest.fixture
def ini(redis_server, s3: S3, tmp_path: Path) -> Iterator[str]:
    path = tmp_path / "config.ini"
    with Simulator(seed=5, now=NOW_S) as druid:
        path.write_text(
            f"""
            [Outliers]
            schedule_hour=* * * * *
            target_sensors={", ".join(HEALTHY[:-1])}
            model_names=nobody, {HEALTHY[-1]}
            [Druid]
            druid_endpoint={druid.url}
            [AWS]
            s3_hostname={s3.address}
            s3_public_key=a
            s3_private_key=b
            s3_bucket=models
            [Redis]
            rd_port={redis_server.port}
            [Training]
            granularities=PT5M,PT15M,PT1H
            metrics_port=0
            """.replace(" " * 12, "")
        )
        store = open_store(load_config(str(path), {}))
        for name in ("nobody", HEALTHY[-1]):
            store.put_filter(name, {"type": "selector", "dimension": "sensor_name", "value": name})
        yield str(path)


@pytest.fixture
def schedulers(ini: str, tmp_path: Path) -> Iterator[Callable[[], None]]:
    started = []

    def start() -> None:
        log = open(tmp_path / f"schedule-{len(started)}.log", "wb")  # noqa: SIM115
        command = [sys.executable, "-m", "outliers", "--config", ini, "schedule"]
        started.append(subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT))

    yield start
    for process in started:
        process.terminate()
        assert process.wait(30) == 0


@pytest.mark.timeout(600)
def test_every_name_ends_with_one_outcome_whatever_goes_away(ini, s3, redis_server, start_worker, schedulers):
    queue = TrainingQueue(load_config(ini, {}))
    workers = [start_worker(config=ini) for _ in range(3)]
    for _ in range(2):
        schedulers()

    def fitting() -> subprocess.Popen[bytes] | None:
        """The worker of a job that is in its fit."""
        for job in list_jobs(queue):
            if job.state == "running" and job.progress.get("step") == "fit":
                return next((worker for worker in workers if f"-{worker.pid}-" in job.worker), None)
        return None

    os.kill(wait_for(fitting, 120).pid, signal.SIGKILL)
    wait_for(fitting, 120)
    redis_server.stop()
    time.sleep(2)
    redis_server.start()
    wait_for(fitting, 120)
    s3.stop()
    time.sleep(5)
    s3.start()
    wait_for(lambda: len(queue.last_outcomes()) == len(HEALTHY) + 1, 400)

    outcomes = {name: outcome["text"] for name, outcome in queue.last_outcomes().items()}
    store = open_store(queue.config)
    versions = {name: [stored.version for stored in store.versions(name)] for name in HEALTHY}
    assert outcomes.pop("nobody").startswith("refused: ")
    assert outcomes == {name: f"published {versions[name][0]}" for name in HEALTHY}
    assert all(len(found) == 1 for found in versions.values())
    assert queue.outcome_counts() == {"published": len(HEALTHY), "refused": 1}
    assert queue.active_keys() == set()
