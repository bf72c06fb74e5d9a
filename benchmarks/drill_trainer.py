"""The trainer under fire: two schedulers, three workers, and everything they depend on going away in mid-job.

    python -m benchmarks.drill_trainer

Real processes throughout: redis-server, an S3 server, the simulated Druid, `outliers schedule` and `outliers work`.
Each fault is timed; in the end every name must have exactly one outcome, and a healthy one exactly one new version.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import boto3
import psutil
from moto.server import ThreadedMotoServer

from benchmarks.processes import RedisServer, free_port, wait_for
from outliers.config import Config, load_config
from outliers.druid.query import sensor_filter
from outliers.druid.simulator import Simulator
from outliers.store import open_store
from outliers.train.jobs import JobView, list_jobs, show_job
from outliers.train.queue import TrainingQueue

PATIENCE_S = 240
SENSORS = ("hq-madrid", "branch-lyon", "branch-oslo", "datacenter-1", "campus-lima", "quiet-lab", "warehouse")
MODELS = tuple(f"model-{i:02d}" for i in range(1, 11))  # further models by name, each over one of these sensors
EMPTY = "nobody-sends-this"
NAMES = (*SENSORS, EMPTY, *MODELS)
CONFIG = """
[Outliers]
schedule_hour = * * * * *
target_sensors = {sensors}
model_names = {models}
[Druid]
druid_endpoint = {druid}
[AWS]
s3_hostname = {s3}
s3_public_key = key
s3_private_key = secret
s3_bucket = models
[Redis]
rd_hostname = 127.0.0.1
rd_port = {redis}
[Training]
metrics_port = 0
granularities = PT5M,PT15M,PT1H
days = 14
"""


class Cluster:
    """Everything the trainer needs, and the trainer's processes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.redis = RedisServer().start()
        self.druid = Simulator(seed=7)
        self.druid.start()
        self.s3_port = free_port()
        self.start_s3()
        self.config_file = folder / "config.ini"
        sensors, models = ", ".join((*SENSORS, EMPTY)), ", ".join(MODELS)
        text = CONFIG.format(
            sensors=sensors, models=models, druid=self.druid.url, s3=self.s3_url, redis=self.redis.port
        )
        self.config_file.write_text(text)
        self.config: Config = load_config(str(self.config_file), {})
        aws = {"aws_access_key_id": "key", "aws_secret_access_key": "secret", "region_name": "us-east-1"}
        boto3.client("s3", endpoint_url=self.s3_url, **aws).create_bucket(Bucket="models")
        store = open_store(self.config)
        for i, name in enumerate(MODELS):
            store.put_filter(name, sensor_filter(SENSORS[i % len(SENSORS)]))
        self.queue = TrainingQueue(self.config)
        self.processes: list[subprocess.Popen[bytes]] = []

    @property
    def s3_url(self) -> str:
        return f"http://127.0.0.1:{self.s3_port}"

    def start_s3(self) -> None:
        """Start the S3 server; what it held before a stop is still there."""
        self.s3 = ThreadedMotoServer(ip_address="127.0.0.1", port=self.s3_port, verbose=False)
        self.s3.start()

    def start(self, verb: str) -> subprocess.Popen[bytes]:
        log = open(self.folder / f"{verb}-{len(self.processes)}.log", "wb")  # noqa: SIM115
        process = subprocess.Popen(
            [sys.executable, "-m", "outliers", "--config", str(self.config_file), verb],
            stdout=log, stderr=subprocess.STDOUT, env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        self.processes.append(process)
        return process

    def close(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                with contextlib.suppress(psutil.NoSuchProcess):
                    for child in psutil.Process(process.pid).children():
                        child.kill()
                process.kill()
                process.wait()
        self.s3.stop()
        self.druid.stop()
        self.redis.close()

    # --- what is going on ---

    def jobs(self) -> dict[str, JobView]:
        return {job.name: job for job in list_jobs(self.queue, ended=True)}

    def fitting(self, workers: list[subprocess.Popen[bytes]]) -> tuple[JobView, subprocess.Popen[bytes]] | None:
        """Return a job in the middle of its fit, and the worker of these that runs it."""
        for job in self.jobs().values():
            if job.state == "running" and job.progress.get("step") == "fit" and job.progress.get("part", 0) > 0.1:
                for worker in workers:
                    if f"-{worker.pid}-" in job.worker:
                        return job, worker
        return None

    def ended(self, name: str) -> bool:
        return name in self.queue.last_outcomes()


def kill_in_fit(cluster: Cluster, workers: list[subprocess.Popen[bytes]]) -> str:
    job, worker = wait_for(lambda: cluster.fitting(workers), PATIENCE_S, "a job in its fit")
    worker.send_signal(signal.SIGKILL)
    began_s = time.monotonic()
    workers.remove(worker)
    worker.wait()
    wait_for(lambda: _begun_by_another(cluster, job), PATIENCE_S, f"{job.name} to be run again")
    again_s = time.monotonic() - began_s
    workers.append(cluster.start("work"))
    return f"kill -9 of a worker in the fit of {job.name}: runs again after {again_s:.0f} s (120 allowed)"


def _begun_by_another(cluster: Cluster, before: JobView) -> bool:
    now = show_job(cluster.queue, before.id)
    return cluster.ended(now.name) or (now.state == "running" and now.worker != before.worker)


def restart_redis(cluster: Cluster, workers: list[subprocess.Popen[bytes]]) -> str:
    job, _ = wait_for(lambda: cluster.fitting(workers), PATIENCE_S, "a job in its fit")
    cluster.redis.stop()
    time.sleep(5)
    cluster.redis.start()
    return f"Redis stopped for 5 s in the fit of {job.name}"


def refuse_s3(cluster: Cluster, workers: list[subprocess.Popen[bytes]]) -> str:
    job, _ = wait_for(lambda: cluster.fitting(workers), PATIENCE_S, "a job in its fit")
    cluster.s3.stop()
    wait_for(
        lambda: show_job(cluster.queue, job.id).state == "to be tried again", PATIENCE_S, f"{job.name} to be put off"
    )
    cluster.start_s3()
    began_s = time.monotonic()
    wait_for(lambda: cluster.ended(job.name), PATIENCE_S, f"{job.name} to end")
    return f"S3 refused when {job.name} was published: published {time.monotonic() - began_s:.0f} s after it was back"


def freeze_node(cluster: Cluster, workers: list[subprocess.Popen[bytes]]) -> str:
    job, worker = wait_for(lambda: cluster.fitting(workers), PATIENCE_S, "a job in its fit")
    frozen = [worker.pid, *(child.pid for child in psutil.Process(worker.pid).children())]
    for pid in frozen:
        os.kill(pid, signal.SIGSTOP)
    wait_for(lambda: cluster.ended(job.name), PATIENCE_S, f"{job.name} to be run by another")
    for pid in reversed(frozen):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
    return f"a node frozen in the fit of {job.name}, woken when another had published: it published nothing"


def table(cluster: Cluster) -> list[str]:
    """Print one line a name; return what is wrong."""
    store, jobs, wrong = open_store(cluster.config), cluster.jobs(), []
    print(f"\n{'name':<18} {'tries':>5} {'versions':>8} {'seconds':>8}  outcome")
    for name in NAMES:
        job, versions = jobs[name], len(store.versions(name))
        seconds = (job.ended_at - job.enqueued_at).total_seconds() if job.ended_at and job.enqueued_at else float("nan")
        print(f"{name:<18} {job.tries:>5} {versions:>8} {seconds:>8.1f}  {job.outcome}")
        if versions != (name != EMPTY) or job.outcome.startswith("published") != (name != EMPTY):
            wrong.append(f"{name}: {versions} versions, {job.outcome}")
    counts = cluster.queue.outcome_counts()
    if sum(counts.values()) != len(NAMES):
        wrong.append(f"{len(NAMES)} names and {counts} outcomes")
    return wrong


def main() -> int:
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    if not shutil.which("redis-server"):
        print("drill: redis-server is not installed")
        return 1
    with tempfile.TemporaryDirectory(prefix="drill-") as folder:
        cluster = Cluster(Path(folder))
        try:
            began_s = time.monotonic()
            workers = [cluster.start("work") for _ in range(3)]
            for _ in range(2):
                cluster.start("schedule")
            for fault in (kill_in_fit, restart_redis, refuse_s3, freeze_node):
                print(f"{fault(cluster, workers)}", flush=True)
            wait_for(lambda: all(map(cluster.ended, NAMES)), 2 * PATIENCE_S, "every name to end")
            print(f"all {len(NAMES)} names ended after {time.monotonic() - began_s:.0f} s")
            wrong = table(cluster)
            for sentence in wrong:
                print(f"WRONG: {sentence}")
            return int(bool(wrong))
        except BaseException:
            for log in sorted(Path(folder).glob("*.log")):
                print(f"--- {log.name}\n{log.read_text()[-2000:]}")
            raise
        finally:
            cluster.close()


if __name__ == "__main__":
    sys.exit(main())
