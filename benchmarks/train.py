"""How long a training job takes, where the time goes, and what it needs.

    python -m benchmarks.train [--sensors N]

Each job runs as it does in production: in a process forked from a worker that has its imports done. Druid is the
simulated one, in a process of its own; the store is a directory.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from outliers.config import Config
from outliers.druid.simulator import Simulator

OLD_SERVICE_S, OLD_SERVICE_LOAD_S = 13.4, 3.8  # one day at 8 granularities, 20 epochs; and its imports
GOAL_S, GOAL_MB = 2.0, 250
SENSORS = ("hq-madrid", "branch-lyon", "branch-oslo", "datacenter-1", "campus-lima", "quiet-lab", "warehouse")


@contextmanager
def druid() -> Iterator[str]:
    """A simulated broker in a process of its own."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_serve, args=(theirs,), daemon=True)
    process.start()
    try:
        yield ours.recv()
    finally:
        process.kill()
        process.join()


def _serve(connection: Any) -> None:
    simulator = Simulator(seed=11)
    connection.send(simulator.start())
    while True:
        time.sleep(60)


def in_work_horse(task: Callable[[], Any]) -> dict[str, Any]:
    """Run `task` in a fork of this process; its result, wall and CPU seconds from the fork on, and peak memory."""
    read, write = os.pipe()
    began_s = time.perf_counter()
    if not os.fork():
        result = task()
        used = os.times()
        facts = {"result": result, "wall_s": time.perf_counter() - began_s, "cpu_s": used.user + used.system}
        os.write(write, json.dumps({**facts, "peak_mb": peak_mb()}).encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        found: dict[str, Any] = json.loads(pipe.read())
    os.wait()
    return found


def peak_mb() -> float:
    with open("/proc/self/status", encoding="ascii") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024


def bare_torch_mb() -> float:
    code = "import torch; print(next(l.split()[1] for l in open('/proc/self/status') if l.startswith('VmHWM')))"
    return int(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout) / 1024


def job(name: str, config: Config) -> dict[str, Any]:
    from outliers.train.job import train

    outcome = train(name, config)
    return {"text": str(outcome), **outcome.figures}


def line(label: str, text: str) -> None:
    print(f"{label:<44} {text}", flush=True)


def splits(figures: dict[str, Any]) -> str:
    return ", ".join(f"{step} {seconds:.2f}" for step, seconds in figures["seconds"].items() if seconds >= 0.005)


def old_work(config: Config) -> None:
    """One day at the old service's 8 granularities, 20 epochs."""
    training = replace(config.training, days=1, days_fine=1)
    coarse = tuple(text for text in training.granularities if text in ("PT1H", "PT2H", "PT8H"))
    config = replace(config, training=training, outliers=replace(config.outliers, epochs=20))
    runs = [in_work_horse(lambda: job(SENSORS[0], config)) for _ in range(3)]
    best = min(runs, key=lambda run: float(run["wall_s"]))
    figures = best["result"]
    line("one day x 8 granularities, 20 epochs", f"{best['wall_s']:.2f} s in a work-horse (goal {GOAL_S} s), "
         f"{best['cpu_s']:.2f} s CPU; old service {OLD_SERVICE_S} s + {OLD_SERVICE_LOAD_S} s of imports")  # fmt: skip
    line("  seconds", splits(figures))
    line("  points", json.dumps(figures["points"]) + f" ({', '.join(coarse)}: two days)")
    for note in figures["notes"]:
        line("  note", note)
    line("  outcome", figures["text"])
    bare = bare_torch_mb()
    line("  peak memory", f"{best['peak_mb']:.0f} MB, {best['peak_mb'] - bare:.0f} over a bare import torch "
         f"({bare:.0f}; goal {GOAL_MB} over)")  # fmt: skip


def throughput(config: Config, sensors: int) -> None:
    """Full jobs (28 and 56 days, a week below 5 minutes), one after the other on one core."""
    runs = [in_work_horse(lambda i=i: job(SENSORS[i % len(SENSORS)], config)) for i in range(sensors)]  # type: ignore
    wall_s = sum(run["wall_s"] for run in runs) / len(runs)
    cpu_s = sum(run["cpu_s"] for run in runs) / len(runs)
    line("28 days, all granularities", f"{wall_s:.2f} s a sensor, {cpu_s:.2f} s CPU (mean of {len(runs)}): "
         f"{3600 / cpu_s:.0f} sensors an hour and core")  # fmt: skip
    for run in runs[: len(SENSORS)]:
        line(f"  {run['result']['text'][:40]}", splits(run["result"]))
    line("  peak memory", f"{max(run['peak_mb'] for run in runs):.0f} MB")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sensors", type=int, default=len(SENSORS), help="full jobs to run")
    args = parser.parse_args()
    with druid() as url, tempfile.TemporaryDirectory() as folder:
        plain = Config()
        config = replace(plain, druid=replace(plain.druid, endpoint=url), store=replace(plain.store, directory=folder))
        began_s = time.perf_counter()
        from outliers.train.worker import preload

        preload(config)
        line("a worker's imports, once", f"{time.perf_counter() - began_s:.2f} s")
        old_work(config)
        throughput(config, args.sensors)
    return 0


if __name__ == "__main__":
    sys.exit(main())
