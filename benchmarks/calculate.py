"""How fast and how small the executor is, each figure beside its floor: `python -m benchmarks.calculate`.

Floors: the same waitress and Flask answering the same bytes without work (no-op); the same reading the question and
writing an answer without judging (parse and write); the bare onnxruntime call; Druid's own round trip.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil

from benchmarks.executor import (
    MODEL,
    ROOT,
    SENSOR,
    START_S,
    Client,
    Running,
    executor,
    flow_query,
    form,
    free_port,
    in_turn,
    process,
    traffic_rows,
    wait_for,
)  # fmt: skip
from outliers.druid.simulator import Simulator
from outliers.infer import witness
from outliers.infer.model import Model, _options
from outliers.store.names import key_of
from outliers.web.supervisor import WORKER_ENVIRONMENT


class Figure(NamedTuple):
    """One line: what, how much, beside what, and the goal."""

    what: str
    value: float
    unit: str
    goal: float | None
    beside: str = ""

    def line(self) -> str:
        goal = "" if self.goal is None else f"{'met' if self.value <= self.goal else 'MISSED':6} (goal {self.goal:g})"
        return f"{self.what:62} {self.value:9.2f} {self.unit:5} {goal:20} {self.beside}"


def p(values: np.ndarray, share: float) -> float:
    return float(np.percentile(values, share))


def latencies(folder: Path, quick: bool) -> Iterator[Figure]:
    """Answers to data that is sent along."""
    port = free_port()
    with (
        executor(folder, [(SENSOR, MODEL.read_bytes())]) as running,
        process([sys.executable, "-m", "benchmarks.floors", str(port)], folder / "floors.log") as floors,
    ):
        wait_for(port, "/")
        service, floor = Client(running.port), Client(port)
        for points, metrics, model, rounds in (
            (60, None, SENSOR, 1500), (1440, None, SENSOR, 150), (10080, None, SENSOR, 25),
            (1440, ("bytes",), None, 300),
        ):  # fmt: skip
            data = traffic_rows(points, metrics) if metrics else traffic_rows(points)
            body = form(data=data, **({"model": model} if model else {}))
            kept = service.post("/calculate", body)
            floor.post(f"/keep/{points}", kept, "application/octet-stream")
            taken = in_turn(
                {
                    "service": lambda body=body: service.post("/calculate", body),
                    "no-op": lambda body=body, points=points: floor.post(f"/noop/{points}", body),
                    "parse": lambda body=body: floor.post("/parse", body),
                    **({"bare": bare_call(points), "witness": witness_call(data)} if model else {}),
                },
                rounds // 10 if quick else rounds,
            )
            yield from _latency_figures(points, model, taken)
            yield _cpu_figure(points, model, running, psutil.Process(floors.pid), service, floor, body, quick)


def _cpu_figure(
    points: int, model: str | None, running: Running, floors: psutil.Process, service: Client, floor: Client,
    body: bytes, quick: bool,
) -> Figure:  # fmt: skip
    """Processor time of one request over that of a no-op: unlike latency, the same on a machine that is busy."""
    rounds = max(20, (3000 if quick else 30_000) // points)

    def cost_ms(ask: Callable[[], object], cpu_s: Callable[[], float]) -> float:
        before = cpu_s()
        for _ in range(rounds):
            ask()
        return (cpu_s() - before) / rounds * 1e3

    whole = cost_ms(lambda: service.post("/calculate", body), running.worker_cpu_s)
    nothing = cost_ms(lambda: floor.post(f"/noop/{points}", body), lambda: sum(floors.cpu_times()[:2]))
    what = f"{'model' if model else 'no model'}, {points} points: processor time over no-op"
    return Figure(f"  {what}", whole - nothing, "ms", None, f"{whole:.2f} and {nothing:.2f}")


def _latency_figures(points: int, model: str | None, taken: dict[str, np.ndarray]) -> Iterator[Figure]:
    middle = {name: p(values, 50) for name, values in taken.items()}
    beside = ", ".join(f"{name} {value:.2f}" for name, value in middle.items())
    over = middle["service"] - middle["no-op"]
    if model is None:
        yield Figure(f"no model, {points} points x 1 metric: p50 over no-op", over, "ms", 3.0, beside)
    elif points == 60:
        yield Figure(f"model, {points} points x 11 metrics: p50 over no-op", over, "ms", 1.5, beside)
        ratio = p(taken["service"], 99) / middle["service"]
        floor = p(taken["no-op"], 99) / middle["no-op"]
        yield Figure("  p99 / p50", ratio, "x", 4.0, f"p99 {p(taken['service'], 99):.2f} ms; no-op {floor:.1f} x")
    else:
        whole = middle["parse"] + middle["bare"] + middle["witness"]
        ratio = middle["service"] / whole
        yield Figure(f"model, {points} points x 11: / (parse and write + bare + witness)", ratio, "x", 1.5, beside)
    if model and points == 1440:
        yield Figure("bare onnxruntime call, 1440 points x 11 metrics", middle["bare"], "ms", 5.0)


def bare_call(points: int) -> Callable[[], object]:
    """onnxruntime alone, on arrays that are there already."""
    model = Model.load(MODEL.read_bytes())
    rows = traffic_rows(points, model.meta.metrics)
    values = np.array([[row["result"][name] for name in model.meta.metrics] for row in rows], np.float32)
    feed = {
        "timestamp": START_S + 60 * np.arange(points, dtype=np.int64),
        "step": np.array(60, np.int64),
        "values": values,
        "k": np.array(1.25, np.float32),
        "causal": np.array(0, np.int64),
        "first": np.array(0, np.int64),
    }
    import onnxruntime  # after the model's module, which keeps it from reporting to its maker

    session = onnxruntime.InferenceSession(MODEL.read_bytes(), _options(), providers=["CPUExecutionProvider"])
    outputs = ["expected", "lower", "upper", "score", "own"]
    return lambda: session.run(outputs, feed)


def witness_call(rows: list[dict[str, Any]]) -> Callable[[], object]:
    values = np.array([row["result"]["bytes"] for row in rows])
    timestamps = START_S + 60 * np.arange(len(rows), dtype=np.int64)
    return lambda: witness.agreement(witness.score(values, timestamps, 60))


def with_druid(folder: Path, quick: bool) -> Iterator[Figure]:
    """What is added to Druid's own round trip, without and with a lead-in that is kept."""
    now_s = START_S + 86400
    rounds = 30 if quick else 300
    with Simulator(seed=1, now=now_s) as simulator:
        settings = {"druid_endpoint": simulator.url, "cache_s": 0, "history_s": 3600}
        detection = {"stale_s": 10**9}
        with executor(folder, [(SENSOR, MODEL.read_bytes())], Druid=settings, Detection=detection) as running:
            service, druid = Client(running.port), Client(int(simulator.url.split(":")[2].split("/")[0]))
            query = flow_query(now_s - 7200, now_s - 3600)
            raw = json.dumps(query).encode()
            alone, led = form(query=query, lead_in="none"), form(query=query)
            taken = in_turn(
                {
                    "druid": lambda: druid.post("/druid/v2/", raw, "application/json"),
                    "no lead-in": lambda: service.post("/calculate", alone),
                    "lead-in": lambda: service.post("/calculate", led),
                },
                rounds,
            )
    middle = {name: p(values, 50) for name, values in taken.items()}
    beside = ", ".join(f"{name} {value:.2f}" for name, value in middle.items())
    added = middle["no lead-in"] - middle["druid"]
    yield Figure("with Druid, 60 x 11, no lead-in: added to its round trip", added, "ms", 2.5, beside)
    added = middle["lead-in"] - middle["druid"]
    yield Figure("with Druid, 60 x 11, lead-in of a day kept: added", added, "ms", 3.0, beside)


def start(folder: Path, quick: bool) -> Iterator[Figure]:
    """Process start to the first answer of a model."""
    body = form(data=traffic_rows(60), model=SENSOR)
    taken = []
    for number in range(2 if quick else 7):
        began = time.perf_counter()
        (folder / str(number)).mkdir()
        with executor(folder / str(number), [(SENSOR, MODEL.read_bytes())]) as running:
            ready = time.perf_counter() - began
            Client(running.port).post("/calculate", body)
            taken.append((time.perf_counter() - began, ready))
    answer_s, ready_s = sorted(taken)[len(taken) // 2]
    beside = f"ready after {ready_s:.2f}, best {min(taken)[0]:.2f}; an interpreter with the libraries {_python_s():.2f}"
    yield Figure("process start to first model answer (median)", answer_s, "s", 0.9, beside)


def _python_s() -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import numpy, flask, onnxruntime"], check=True, env={**os.environ})
    return time.perf_counter() - began


def memory(folder: Path, quick: bool) -> Iterator[Figure]:
    """Resident memory of a worker with one model, before and after many requests; of the supervisor."""
    body = form(data=traffic_rows(60), model=SENSOR)
    requests = 1000 if quick else 10_000
    with executor(folder, [(SENSOR, MODEL.read_bytes())]) as running:
        client = Client(running.port)
        for _ in range(200):
            client.post("/calculate", body)
        before = max(running.worker_mb())
        for _ in range(requests):
            client.post("/calculate", body)
        after = max(running.worker_mb())
        yield Figure(f"worker, one model, after {requests} requests", after, "MB", 100.0, f"{before:.1f} after 200")
        yield Figure("supervisor", running.process.memory_info().rss / 1e6, "MB", 100.0)
    code = (
        "import sys, psutil; from outliers.infer.model import Model, Sessions\n"
        "shared = Sessions(); data = open(sys.argv[1], 'rb').read()\n"
        "import numpy as np; from outliers.series import Series\n"
        "def load():\n"
        "    m = Model.load(data, shared); v = np.ones((60, len(m.meta.metrics)))\n"
        "    m.score(Series(60 * np.arange(60), v, m.meta.metrics, 'PT1M', 60), 1.25); return m\n"
        "kept = [load() for _ in range(10)]; rss = psutil.Process().memory_info().rss\n"
        "kept += [load() for _ in range(100)]; print((psutil.Process().memory_info().rss - rss) / 100 / 1e6)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **WORKER_ENVIRONMENT}
    read = subprocess.run(
        [sys.executable, "-c", code, str(MODEL)], capture_output=True, text=True, check=True, env=environment
    )
    size_mb = MODEL.stat().st_size / 1e6
    yield Figure("each loaded model", float(read.stdout), "MB", 0.5, f"its file has {size_mb:.2f} MB")


def workers(folder: Path, quick: bool) -> Iterator[Figure]:
    """16 clients at once: requests per second of worker CPU time, two workers against one."""
    body = form(data=traffic_rows(60), model=SENSOR)
    rates, per_second = {}, {}
    seconds = 2.0 if quick else 8.0
    for count in (1, 2):
        (folder / str(count)).mkdir()
        server = {"outliers_server_workers": count}
        with executor(folder / str(count), [(SENSOR, MODEL.read_bytes())], OutliersServerProduction=server) as running:
            _many(running.port, body, 1.0)
            cpu_s = running.worker_cpu_s()
            answered = _many(running.port, body, seconds)
            rates[count] = answered / (running.worker_cpu_s() - cpu_s)
            per_second[count] = answered / seconds
    beside = f"{rates[2]:.0f} and {rates[1]:.0f} per CPU second; {per_second[2]:.0f} and {per_second[1]:.0f} per second"
    yield Figure(
        "16 clients: CPU cost of a request, 2 workers / 1 (goal 1/0.9)", rates[1] / rates[2], "x", 1 / 0.9, beside
    )


def _many(port: int, body: bytes, seconds: float) -> int:
    """Ask from 16 threads for some seconds; how many were answered (any other answer raises)."""
    until = time.monotonic() + seconds
    counts = [0] * 16
    failures: list[BaseException] = []

    def ask(number: int) -> None:
        try:
            client = Client(port)
            while time.monotonic() < until:
                client.post("/calculate", body)
                counts[number] += 1
        except Exception as error:  # noqa: BLE001 - raised below, in the thread that reports
            failures.append(error)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return sum(counts)


def many_sensors(folder: Path, quick: bool) -> Iterator[Figure]:
    """Many sensors in the store, a tenth of them asked in turn."""
    stored, asked = (300, 30) if quick else (10_000, 1000)
    data = MODEL.read_bytes()
    latest = folder / "store" / "latest"
    latest.mkdir(parents=True)
    first = latest / f"{key_of('sensor-0')}.onnx"
    first.write_bytes(data)
    for number in range(1, stored):
        os.link(first, latest / f"{key_of(f'sensor-{number}')}.onnx")
    rows = traffic_rows(60)
    limits = {"models_mb": 8192}
    began = time.perf_counter()
    with executor(folder, Limits=limits) as running:
        ready_s = time.perf_counter() - began
        client = Client(running.port)
        bodies = [form(data=rows, model=f"sensor-{number}") for number in range(0, stored, stored // asked)]
        loads = in_turn({"load": _cycle(client, bodies)}, len(bodies))["load"]
        one = in_turn({"one": lambda: client.post("/calculate", bodies[0])}, len(bodies))["one"]
        many = in_turn({"many": _cycle(client, bodies)}, 2 * len(bodies))["many"]
        rss = max(running.worker_mb())
    yield Figure(
        f"{stored} sensors, {asked} in turn: p99 / p99 of one", p(many, 99) / p(one, 99), "x", 3.0,
        f"p50 {p(many, 50):.2f} and {p(one, 50):.2f} ms; first time p50 {p(loads, 50):.1f} ms; "
        f"worker {rss:.0f} MB; ready after {ready_s:.1f} s",
    )  # fmt: skip


def _cycle(client: Client, bodies: list[bytes]) -> Callable[[], object]:
    position = 0

    def ask() -> None:
        nonlocal position
        client.post("/calculate", bodies[position % len(bodies)])
        position += 1

    return ask


PARTS: dict[str, Callable[[Path, bool], Iterator[Figure]]] = {
    "latencies": latencies, "with_druid": with_druid, "start": start, "memory": memory, "workers": workers,
    "many_sensors": many_sensors,
}  # fmt: skip


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.calculate", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; default: all")
    parser.add_argument("--quick", action="store_true", help="fewer rounds: shows that it runs, not how fast")
    parser.add_argument("--json", metavar="OUT", help="write the figures there as well")
    options = parser.parse_args(arguments)
    unknown = set(options.parts) - set(PARTS)
    if unknown:
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    figures = []
    for name in options.parts or PARTS:
        with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
            for figure in PARTS[name](Path(folder), options.quick):
                print(figure.line(), flush=True)
                figures.append(figure._asdict())
    if options.json:
        Path(options.json).write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    if not WORKER_ENVIRONMENT.items() <= os.environ.items():  # the bare call is measured as it runs in a worker
        again = [sys.executable, "-m", "benchmarks.calculate", *sys.argv[1:]]
        os.execve(sys.executable, again, {**os.environ, **WORKER_ENVIRONMENT})
    main()
