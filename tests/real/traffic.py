"""Three weeks of the simulator's traffic in a real Druid, and what is wrong in them; it must not know what is asked."""

from __future__ import annotations

import gzip
import re
from dataclasses import dataclass
from pathlib import Path

from outliers.druid.simulator.dump import write_events
from outliers.druid.simulator.labels import Label
from outliers.druid.simulator.sensors import SENSORS
from outliers.druid.simulator.traffic import Traffic
from outliers.times import instant_text
from tests.real.random_events import FLOW, MONITOR
from tests.real.servers.loading import Loader

DAY_S = 86_400
# A Monday afternoon that is long past: a service that went by its own clock would find nothing.
NOW_S = 1_764_000_000
DAYS = 21
# Those of the simulator's sensors with few hosts: 20,000 events a day in all.
NAMES = ("branch-lyon", "branch-oslo", "quiet-lab", "warehouse", "new-office")


# A sensor that is never silent in three weeks is so for three quarters of an hour, a day before the end.
OUTAGE = Label("quiet-lab", NOW_S - DAY_S, NOW_S - DAY_S + 45 * 60, "outage", 0.0)


@dataclass(frozen=True)
class Loaded:
    """labels: what is wrong, by time. rows: events of rb_flow. seconds: how long loading took."""

    sensors: tuple[str, ...]
    labels: tuple[Label, ...]
    rows: int
    seconds: float


def load_traffic(loader: Loader, folder: Path) -> Loaded:
    """Write the traffic into `folder` and load it as rb_flow and rb_monitor."""
    traffic = Traffic(seed=0, now=NOW_S, sensors=[each for each in SENSORS if each.name in NAMES])
    start_s = NOW_S - DAYS * DAY_S
    counts = write_events(str(folder), traffic, start_s, NOW_S, None)
    counts["rb_flow"] -= silence(folder / "rb_flow.jsonl.gz", OUTAGE)
    seconds = sum(
        loader.load(
            roll_up.data_source,
            folder / f"{roll_up.data_source}.jsonl.gz",
            roll_up.dimensions,
            roll_up.metrics,
            counts[roll_up.data_source],
        )
        for roll_up in (FLOW, MONITOR)
    )
    labels = sorted([*traffic.labels(start_s, NOW_S), OUTAGE], key=lambda label: label.start_s)
    return Loaded(NAMES, tuple(labels), counts["rb_flow"], seconds)


def silence(file: Path, outage: Label) -> int:
    """Take a sensor's events of some time out of a file; how many there were."""
    first, last = (instant_text(at_s * 1000).encode() for at_s in (outage.start_s, outage.end_s))
    name, at = f'"{outage.sensor}"'.encode(), re.compile(rb'"timestamp":"([^"]+)"')

    def silent(line: bytes) -> bool:
        found = at.search(line)
        return name in line and found is not None and first <= found[1] < last

    with gzip.open(file, "rb") as events:
        lines = events.readlines()
    kept = [line for line in lines if not silent(line)]
    with gzip.open(file, "wb", compresslevel=1) as events:
        events.writelines(kept)
    return len(lines) - len(kept)
