"""Fixtures of the trainer's tests: a real Redis, workers as processes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rq")
HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from tasks import config_for  # noqa: E402

from benchmarks.processes import RedisServer, Wire  # noqa: E402
from outliers.train.queue import TrainingQueue  # noqa: E402


@pytest.fixture
def redis_server() -> Iterator[RedisServer]:
    if not shutil.which("redis-server"):
        pytest.skip("redis-server is not installed")
    server = RedisServer().start()
    yield server
    server.close()


@pytest.fixture
def queue(redis_server: RedisServer) -> TrainingQueue:
    return TrainingQueue(config_for(redis_server.port))


@pytest.fixture
def start_worker(redis_server: RedisServer, tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    started: list[subprocess.Popen[bytes]] = []

    def start(*arguments: str, config: str = "", port: int = 0) -> subprocess.Popen[bytes]:
        log = open(tmp_path / f"worker-{len(started)}.log", "wb")  # noqa: SIM115
        process = subprocess.Popen(
            [sys.executable, str(HERE / "tasks.py"), config or str(port or redis_server.port), *arguments],
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE.parent.parent), str(HERE)])},
            stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)
            process.kill()
            process.wait()


@pytest.fixture
def wire(redis_server: RedisServer) -> Iterator[Wire]:
    """The way of one node to Redis."""
    wire = Wire(redis_server.port)
    yield wire
    wire.mend()
    wire.close()


def wait_for(condition: Callable[[], Any], seconds: float = 60.0) -> Any:
    """Return what `condition` returns, as soon as it is true."""
    until_s = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < until_s, "waited in vain"
        time.sleep(0.1)
    return found
