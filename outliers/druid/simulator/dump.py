"""The generated traffic written as events, to be loaded into a real Druid; knows nothing of queries.

One JSON object a line in `<data source>.jsonl.gz`, as shared/servers/druid/load.py ingests it: rolled up there, the
events are the very rows that the simulator answers from.
"""

from __future__ import annotations

import gzip
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Optional

import orjson

from outliers.druid.simulator.labels import DAY_S
from outliers.druid.simulator.sensors import Sensor
from outliers.druid.simulator.table import DAY_MS, Block
from outliers.druid.simulator.traffic import Traffic
from outliers.times import instant_text

# Sensors with few hosts: three weeks are 400,000 events, which a Druid on one machine loads in some ten seconds.
SMALL = ("branch-lyon", "branch-oslo", "quiet-lab", "warehouse", "new-office")


def write_events(
    directory: str, traffic: Traffic, start_s: int, end_s: int, sensors: Optional[Sequence[str]] = SMALL
) -> dict[str, int]:
    """Write rb_flow and rb_monitor over [start_s, end_s) of some sensors (None: all); events in each.

    Nothing after the traffic's `now` is written, whatever the end.
    """
    chosen = [each for each in traffic.sensors if sensors is None or each.name in sensors]
    end_s = min(end_s, int(traffic.now_s) + 1)
    os.makedirs(directory, exist_ok=True)
    return {
        "rb_flow": _write(os.path.join(directory, "rb_flow.jsonl.gz"), _flows(traffic, chosen, start_s, end_s)),
        "rb_monitor": _write(
            os.path.join(directory, "rb_monitor.jsonl.gz"), _monitors(traffic, chosen, start_s, end_s)
        ),
    }


def _write(path: str, events: Iterable[dict[str, Any]]) -> int:
    count = 0
    with gzip.open(path, "wb", compresslevel=1) as file:
        for event in events:
            file.write(orjson.dumps(event) + b"\n")
            count += 1
    return count


def _flows(traffic: Traffic, sensors: Sequence[Sensor], start_s: int, end_s: int) -> Iterator[dict[str, Any]]:
    for sensor in sensors:
        macs = traffic.host_names(sensor)
        for day in range(max(start_s // DAY_S, traffic.installed_day(sensor)), -(-end_s // DAY_S)):
            block = traffic.day(sensor, day)
            seconds = traffic.seconds(sensor, day, len(block)).tolist()
            hosts = block.texts["lan_ip"].codes.tolist()
            for event, second, host in zip(_rows(block), seconds, hosts):
                at_s = event.pop("at_ms") // 1000 + second
                if start_s <= at_s < end_s:
                    yield {"timestamp": instant_text(at_s * 1000), **event, "client_mac": macs[host]}


def _monitors(traffic: Traffic, sensors: Sequence[Sensor], start_s: int, end_s: int) -> Iterator[dict[str, Any]]:
    names = frozenset(sensor.name for sensor in sensors)
    first = start_s * 1000 // DAY_MS * DAY_MS
    for block in traffic.tables()["rb_monitor"].blocks(first, end_s * 1000, names):
        for row in _rows(block):
            if start_s * 1000 <= row["at_ms"]:
                stamp = instant_text(row["at_ms"])
                event = {key: row[key] for key in ("sensor_name", "monitor")}
                yield {"timestamp": stamp, **event, "value": row["sum_value"]}


def _rows(block: Block) -> Iterator[dict[str, Any]]:
    names = ["at_ms", *block.texts, *block.numbers]
    columns: list[Sequence[Any]] = [block.time_ms.tolist()]
    columns += [[texts.values[code] for code in texts.codes.tolist()] for texts in block.texts.values()]
    columns += [numbers.values.tolist() for numbers in block.numbers.values()]
    for cells in zip(*columns):
        yield dict(zip(names, cells))
