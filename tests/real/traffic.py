"""Three weeks of the simulator's traffic as events, and what is wrong in them; it must not know what is asked."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from outliers.druid.simulator.labels import Label
from outliers.druid.simulator.sensors import SENSORS
from outliers.druid.simulator.table import Block
from outliers.druid.simulator.traffic import Traffic
from outliers.times import instant_text
from tests.real.random_events import FLOW, MONITOR
from tests.real.servers.loading import Loader

DAY_S = 86_400
# A Monday afternoon that is long past: a service that went by its own clock would find nothing.
NOW_S = 1_764_000_000
DAYS = 21
MONITOR_DAYS = 3
# Those of the simulator's sensors with few hosts: 20,000 events a day in all.
NAMES = ("branch-lyon", "branch-oslo", "quiet-lab", "warehouse", "new-office")


@dataclass(frozen=True)
class Loaded:
    """labels: what is wrong, by time. rows: events of rb_flow. seconds: how long loading took."""

    sensors: tuple[str, ...]
    labels: tuple[Label, ...]
    now_s: int
    rows: int
    seconds: float


def load_traffic(loader: Loader, folder: Path) -> Loaded:
    """Write the traffic into `folder` and load it as rb_flow and rb_monitor."""
    traffic = Traffic(seed=0, now=NOW_S, sensors=[each for each in SENSORS if each.name in NAMES])
    seconds, counts = 0.0, {}
    for roll_up, events in ((FLOW, flow_events(traffic)), (MONITOR, monitor_events(traffic))):
        file = folder / f"{roll_up.data_source}.jsonl.gz"
        counts[roll_up.data_source] = write(file, events)
        seconds += loader.load(
            roll_up.data_source, file, roll_up.dimensions, roll_up.metrics, counts[roll_up.data_source]
        )
    labels = tuple(traffic.labels(NOW_S - DAYS * DAY_S, NOW_S))
    return Loaded(NAMES, labels, NOW_S, counts["rb_flow"], seconds)


def write(file: Path, events: Iterator[dict[str, Any]]) -> int:
    count = 0
    with gzip.open(file, "wb", compresslevel=1) as out:
        for count, event in enumerate(events, 1):  # noqa: B007 - the count is the answer
            out.write(orjson.dumps(event) + b"\n")
    return count


def flow_events(traffic: Traffic) -> Iterator[dict[str, Any]]:
    """One event for each of a host's minutes, at the second at which the simulator says that it arrives."""
    for sensor in traffic.sensors:
        macs = traffic.host_names(sensor)
        for day in range(traffic.today - DAYS, traffic.today + 1):
            if day < traffic.installed_day(sensor):
                continue
            block = traffic.day(sensor, day)
            seconds = traffic.seconds(sensor, day, len(block))
            for row, event in enumerate(rows_of(block, seconds.tolist())):
                event["client_mac"] = macs[int(block.texts["lan_ip"].codes[row])]
                if event.pop("at_s") <= NOW_S:
                    yield event


def monitor_events(traffic: Traffic) -> Iterator[dict[str, Any]]:
    table = traffic.tables()["rb_monitor"]
    for block in table.blocks((NOW_S - MONITOR_DAYS * DAY_S) * 1000, NOW_S * 1000, None):
        for event in rows_of(block, [0] * len(block)):
            del event["at_s"], event["events"], event["max_value"], event["min_value"]
            event["value"] = event.pop("sum_value")
            yield event


def rows_of(block: Block, seconds: list[int]) -> Iterator[dict[str, Any]]:
    columns = {name: [texts.values[code] for code in texts.codes.tolist()] for name, texts in block.texts.items()}
    columns.update({name: numbers.values.tolist() for name, numbers in block.numbers.items()})
    for row, (time_ms, second) in enumerate(zip(block.time_ms.tolist(), seconds)):
        at_s = time_ms // 1000 + second
        event = {name: column[row] for name, column in columns.items()}
        yield {"timestamp": instant_text(at_s * 1000), "at_s": at_s, **event}
