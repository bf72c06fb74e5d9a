"""Fixtures of the trainer's tests: a real Redis, workers as processes. Without rq there is nothing to test here."""

from __future__ import annotations

import importlib.util
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from benchmarks.processes import RedisServer, Wire
    from outliers.train.queue import TrainingQueue

ROOT = Path(__file__).parents[2]

if importlib.util.find_spec("rq") is None or importlib.util.find_spec("torch") is None:
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture
def redis_server() -> Iterator[RedisServer]:
    from benchmarks.processes import RedisServer

    if not shutil.which("redis-server"):
        pytest.skip("redis-server is not installed")
    server = RedisServer().start()
    yield server
    server.close()


@pytest.fixture
def wire(redis_server: RedisServer) -> Iterator[Wire]:
    """The way of one node to Redis."""
    from benchmarks.processes import Wire

    wire = Wire(redis_server.port)
    yield wire
    wire.mend()
    wire.close()


@pytest.fixture
def queue(redis_server: RedisServer) -> TrainingQueue:
    from outliers.train.queue import TrainingQueue
    from tests.train.tasks import config_for

    return TrainingQueue(config_for(redis_server.port))


@pytest.fixture
def start_worker(redis_server: RedisServer, tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Start a worker process; its log is in tmp_path. config: an INI file instead of plain settings."""
    started: list[subprocess.Popen[bytes]] = []

    def start(*arguments: str, config: str = "", port: int = 0) -> subprocess.Popen[bytes]:
        log = open(tmp_path / f"worker-{len(started)}.log", "wb")  # noqa: SIM115
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.train.tasks", config or str(port or redis_server.port), *arguments],
            cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)
            process.kill()
            process.wait()
