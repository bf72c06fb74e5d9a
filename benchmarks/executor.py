"""A running executor and the clients that measure it; knows no figure.

Every latency is measured over one kept-alive connection, and what is compared is asked in turn, so that whatever else
the machine does falls on both alike.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Callable
from urllib.parse import quote_plus

import numpy as np
import psutil

from outliers.druid.traffic import FLOW_AGGREGATIONS, TRAFFIC
from outliers.times import instant_text

ROOT = Path(__file__).parents[1]
MODEL = ROOT / "tests" / "data" / "hq-madrid.onnx"
SENSOR = "hq-madrid"
FORM = "application/x-www-form-urlencoded"
START_S = 1_779_926_400  # 2026-05-28


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Client:
    """One connection that is kept open."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        self._connection.connect()
        self._connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def post(self, path: str, body: bytes, content_type: str = FORM) -> bytes:
        """Post and return the body of the answer, which must be a 200."""
        self._connection.request("POST", path, body, {"Content-Type": content_type})
        answer = self._connection.getresponse()
        read = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{path}: {answer.status} {read[:300]!r}")
        return read


@contextlib.contextmanager
def executor(folder: Path, models: Sequence[tuple[str, bytes]] = (), **sections: dict[str, Any]) -> Iterator[Running]:
    """Start `serve` on a free port with models in its store, wait until it is ready, end it."""
    port = free_port()
    latest = folder / "store" / "latest"
    latest.mkdir(parents=True, exist_ok=True)
    for key, data in models:
        (latest / f"{key}.onnx").write_bytes(data)
    settings: dict[str, dict[str, Any]] = {
        "OutliersServerProduction": {"outliers_binding_address": "127.0.0.1", "outliers_server_port": port},
        "Store": {"kind": "directory", "directory": folder / "store", "mirror": folder / "mirror"},
    }
    for name, keys in sections.items():
        settings[name] = {**settings.get(name, {}), **keys}
    lines = [
        line for name, keys in settings.items() for line in (f"[{name}]", *(f"{k} = {v}" for k, v in keys.items()))
    ]
    (folder / "config.ini").write_text("\n".join(lines))
    command = [sys.executable, "-m", "outliers", "serve", "--config", str(folder / "config.ini")]
    with process(command, folder / "log") as started:
        running = Running(started, port)
        running.wait()
        yield running


@contextlib.contextmanager
def process(command: Sequence[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command from the project's folder, and end it."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with open(log, "ab") as file:
        started = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=file, stderr=file)
    try:
        yield started
    finally:
        started.send_signal(signal.SIGTERM)
        started.wait(60)


class Running:
    """An executor that runs."""

    def __init__(self, started: subprocess.Popen[bytes], port: int) -> None:
        self.process, self.port = psutil.Process(started.pid), port

    def wait(self, path: str = "/ready") -> None:
        wait_for(self.port, path)

    def workers(self) -> list[psutil.Process]:
        return [child for child in self.process.children() if any("spawn_main" in part for part in child.cmdline())]

    def worker_cpu_s(self) -> float:
        return sum(sum(worker.cpu_times()[:2]) for worker in self.workers())

    def worker_mb(self) -> list[float]:
        return [worker.memory_info().rss / 1e6 for worker in self.workers()]


def wait_for(port: int, path: str, seconds: float = 120.0) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", path)
            if connection.getresponse().status in (200, 404):
                return
        time.sleep(0.02)
    raise RuntimeError(f"nothing answers at {path}")


def in_turn(asks: dict[str, Callable[[], object]], rounds: int) -> dict[str, np.ndarray]:
    """Call each in turn, `rounds` times; milliseconds of each call, the first tenth left out."""
    taken: dict[str, list[float]] = {name: [] for name in asks}
    for _ in range(rounds + rounds // 10 + 2):
        for name, ask in asks.items():
            began = time.perf_counter()
            ask()
            taken[name].append((time.perf_counter() - began) * 1e3)
    return {name: np.array(values[-rounds:]) for name, values in taken.items()}


def traffic_rows(points: int, metrics: Sequence[str] = TRAFFIC, seed: int = 0) -> list[dict[str, Any]]:
    """Rows by the minute as Druid writes them, with the ratios between the metrics of real traffic."""
    rng = np.random.default_rng(seed)
    at = np.arange(points)
    level = 4e6 * (1.2 + np.sin(at * 2 * np.pi / 1440)) * rng.lognormal(0, 0.1, points)
    counts = {"bytes": level, "pkts": level / 700, "flows": level / 40_000, "clients": 5 + level / 1e6}
    written = []
    for i in range(points):
        flat = {name: float(int(values[i])) + (0.5 if name == "clients" else 0) for name, values in counts.items()}
        flat["bps"], flat["pps"], flat["fps"] = flat["bytes"] * 8 / 60, flat["pkts"] / 60, flat["flows"] / 60
        for name, of in (("bytes_per_client", "bytes"), ("flows_per_client", "flows")):
            flat[name] = flat[of] / flat["clients"]
        flat["bits_per_sec_per_client"] = flat["bps"] / flat["clients"]
        flat["flows_per_sec_per_client"] = flat["fps"] / flat["clients"]
        stamp = instant_text((START_S + 60 * i) * 1000)
        written.append({"timestamp": stamp, "result": {name: flat[name] for name in metrics}})
    return written


def form(**fields: Any) -> bytes:
    """Write a form body; what is no text is sent as base64 of its JSON."""
    parts = []
    for name, value in fields.items():
        text = value if isinstance(value, str) else base64.b64encode(json.dumps(value).encode()).decode()
        parts.append(f"{name}={quote_plus(text)}")
    return "&".join(parts).encode()


def flow_query(start_s: int, end_s: int, sensor: str = SENSOR) -> dict[str, Any]:
    return {
        "queryType": "timeseries",
        "dataSource": "rb_flow",
        "granularity": "minute",
        "intervals": [f"{instant_text(start_s * 1000)}/{instant_text(end_s * 1000)}"],
        "filter": {"type": "selector", "dimension": "sensor_name", "value": sensor},
        "aggregations": [dict(aggregation) for aggregation in FLOW_AGGREGATIONS],
    }
