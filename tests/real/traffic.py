"""Three weeks of the simulator's traffic in a real Druid, and what is wrong in them; it must not know what is asked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from outliers.druid.simulator.dump import write_events
from outliers.druid.simulator.labels import Label
from outliers.druid.simulator.sensors import SENSORS
from outliers.druid.simulator.traffic import Traffic
from tests.real.random_events import FLOW, MONITOR
from tests.real.servers.loading import Loader

DAY_S = 86_400
# A Monday afternoon that is long past: a service that went by its own clock would find nothing.
NOW_S = 1_764_000_000
DAYS = 21
# Those of the simulator's sensors with few hosts: 20,000 events a day in all.
NAMES = ("branch-lyon", "branch-oslo", "quiet-lab", "warehouse", "new-office")


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
    return Loaded(NAMES, tuple(traffic.labels(start_s, NOW_S)), counts["rb_flow"], seconds)
