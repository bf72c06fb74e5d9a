"""The executor and a training job on a real Druid broker, beside the raw query: `python -m benchmarks.real_druid`.

Needs what `make test-real` needs for its Druid (JDK 17, Maven), or OUTLIERS_TEST_DRUID_URL; without, it says so and
ends. The traffic is the simulator's, three weeks of five sensors.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.executor import ROOT, Client, executor, flow_query, form, in_turn
from tests.real.servers.druid import Druid
from tests.real.servers.fleet import COORDINATOR_VARIABLE, Fleet
from tests.real.servers.loading import Loader
from tests.real.traffic import DAYS, NOW_S, load_traffic

SENSOR = "branch-lyon"
ENDS_S = NOW_S - 7200
# Nothing kept: what whoever asks first waits for. Lead-in kept: what a dashboard waits for when it asks again.
FIRST = {"cache_s": 0, "history_s": 0}
AGAIN = {"cache_s": 0, "history_s": 3600}
REPEATED = {"cache_s": 3600, "history_s": 3600}


def train(folder: Path, endpoint: str) -> dict[str, float]:
    """Train one sensor into the executors' store; seconds of each step."""
    config = folder / "train.ini"
    config.write_text(
        f"[Druid]\ndruid_endpoint = {endpoint}\n[Training]\ndays = {DAYS}\n"
        f"[Store]\nkind = directory\ndirectory = {folder / 'store'}\n"
    )
    command = [sys.executable, "-m", "outliers", "--config", str(config), "train", SENSOR, "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    outcome = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("{")))
    if outcome["kind"] != "published":
        raise RuntimeError(outcome["text"])
    return dict(outcome["figures"]["seconds"])


def measure(folder: Path, port: int, endpoint: str, rounds: int) -> None:
    """Print the milliseconds of the raw query and of `/calculate` over it, asked in turn."""
    models = [(SENSOR, next((folder / "store" / "latest").glob("*.onnx")).read_bytes())]
    with ExitStack() as stack:
        services = {}
        for name, kept in (("first", FIRST), ("again", AGAIN), ("repeated", REPEATED)):
            place = folder / name
            place.mkdir()
            druid = {"druid_endpoint": endpoint, **kept}
            running = stack.enter_context(executor(place, models, Druid=druid, Detection={"stale_s": 10**9}))
            services[name] = Client(running.port)
        broker = Client(port)
        print("milliseconds, median (95th percentile), asked in turn over kept connections")
        for points in (60, 1440):
            query = flow_query(ENDS_S - 60 * points, ENDS_S, SENSOR)
            raw = json.dumps({**query, "context": {"timeout": 20_000}}).encode()
            asks: dict[str, Callable[[], object]] = {
                "the raw query": partial(broker.post, "/druid/v2/", raw, "application/json")
            }
            for lead_in in ("none", "P1D"):
                body = form(query=query, lead_in=lead_in)
                for name, service in services.items():
                    label = f"/calculate, {'no lead-in' if lead_in == 'none' else 'lead-in of a day'}, {name}"
                    asks[label] = partial(service.post, "/calculate", body)
            for label, taken in in_turn(asks, rounds).items():
                middle, high = np.percentile(taken, (50, 95))
                print(f"  {points:5} points  {label:48} {middle:8.1f} ({high:.1f})")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.real_druid", description=__doc__)
    parser.add_argument("--rounds", type=int, default=60, help="how often each is asked")
    options = parser.parse_args(arguments)
    with Fleet() as fleet, tempfile.TemporaryDirectory(prefix="benchmark-") as name:
        place, folder = fleet.place("druid"), Path(name)
        if place.missing:
            print(f"left out, for lack of a real Druid: {place.missing}")
            return 0
        given = os.environ.get(COORDINATOR_VARIABLE, place.url)
        coordinator = place.server.coordinator_url if isinstance(place.server, Druid) else given
        loaded = load_traffic(Loader(coordinator, place.url), folder)
        print(f"real Druid: {loaded.rows} events loaded in {loaded.seconds:.1f} s")
        endpoint = f"{place.url}/druid/v2/"
        seconds = train(folder, endpoint)
        print(told("a training job, 8 granularities", seconds))
        measure(folder, place.port, endpoint, options.rounds)
    return 0


def told(what: str, seconds: dict[str, Any]) -> str:
    parts = ", ".join(f"{step} {value:.2f}" for step, value in seconds.items())
    return f"{what}, seconds: {parts}"


if __name__ == "__main__":
    sys.exit(main())
