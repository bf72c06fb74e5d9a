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
DAY_S = 86_400
KEPT = {
    "first": {"cache_s": 0, "history_s": 0},
    "again": {"cache_s": 0, "history_s": 3600},
    "repeated": {"cache_s": 3600, "history_s": 3600},
}
LEGEND = """first: nothing is kept; again: the lead-in's rows are (a dashboard's next question); repeated: all is.
A lead-in is a second query, of the day before (1440 points), sent at the same time."""


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
        for name, kept in KEPT.items():
            place = folder / name
            place.mkdir()
            druid = {"druid_endpoint": endpoint, **kept}
            running = stack.enter_context(executor(place, models, Druid=druid, Detection={"stale_s": 10**9}))
            services[name] = Client(running.port)
        broker = Client(port)
        print("\nmilliseconds, median (95th percentile), asked in turn over kept connections")
        print(LEGEND)
        for points in (60, 1440):
            start_s = ENDS_S - 60 * points
            query = flow_query(start_s, ENDS_S, SENSOR)
            raw, before = (
                json.dumps({**each, "context": {"timeout": 20_000}}).encode()
                for each in (query, flow_query(start_s - DAY_S, start_s, SENSOR))
            )
            asks: dict[str, Callable[[], object]] = {
                "the raw query": partial(broker.post, "/druid/v2/", raw, "application/json"),
                "the raw query of its lead-in": partial(broker.post, "/druid/v2/", before, "application/json"),
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
        print(split(seconds))
        measure(folder, place.port, endpoint, options.rounds)
    return 0


def split(seconds: dict[str, Any]) -> str:
    """Say where a job's time went; `fetch` is Druid's time and the reading of its rows."""
    parts = {
        "Druid": seconds["bounds"] + seconds["fetch"],
        "fit": seconds["fit"],
        "export": seconds["export"] + seconds["parity"],
        "publish": seconds["store"] + seconds["publish"] + seconds["prune"],
    }
    told = ", ".join(f"{step} {value:.2f}" for step, value in parts.items())
    return f"a training job, 8 granularities: {sum(parts.values()):.2f} s ({told})"


if __name__ == "__main__":
    sys.exit(main())
