"""Small random events with everything awkward in them: nulls, holes, quiet days, both changes of the clock.

It must not know what is asked of them; `FLOW` and `MONITOR` say how they are rolled up.
"""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class RollUp:
    """How events become rows: what is kept apart, and what is summed."""

    data_source: str
    dimensions: tuple[str, ...]
    metrics: tuple[dict[str, str], ...]


FLOW = RollUp(
    "rb_flow",
    ("sensor_name", "namespace", "lan_ip", "application_id_name", "direction"),
    (
        {"type": "longSum", "name": "events", "fieldName": "events"},
        {"type": "longSum", "name": "sum_bytes", "fieldName": "sum_bytes"},
        {"type": "longSum", "name": "sum_pkts", "fieldName": "sum_pkts"},
        {"type": "hyperUnique", "name": "clients", "fieldName": "client_mac"},
    ),
)
MONITOR = RollUp(
    "rb_monitor",
    ("sensor_name", "monitor"),
    (
        {"type": "count", "name": "events"},
        {"type": "doubleSum", "name": "sum_value", "fieldName": "value"},
        {"type": "doubleMax", "name": "max_value", "fieldName": "value"},
        {"type": "doubleMin", "name": "min_value", "fieldName": "value"},
    ),
)
SENSORS = ("hq-lyon", "Branch 7", 'odd, "name" ñ', "10", "9", "")  # numbers as text sort as text
# Days around both changes of the clock in Europe and America, and lonely ones between which no day has a segment.
DAYS = (
    ("2026-03-07", 3),
    ("2026-03-28", 3),
    ("2026-06-30", 2),
    ("2026-10-24", 3),
    ("2026-10-31", 3),
    ("2026-12-31", 2),
)


def moments(rng: random.Random, count: int) -> Iterator[datetime]:
    """Draw times inside DAYS, in clumps: most minutes are empty, some are crowded."""
    for _ in range(count):
        first, days = rng.choice(DAYS)
        start = datetime.fromisoformat(first).replace(tzinfo=timezone.utc)
        clump = start + timedelta(seconds=rng.randrange(days * 86400))
        for _ in range(rng.choice((1, 1, 2, 5, 20))):
            inside = clump + timedelta(seconds=rng.randrange(600))
            if inside < start + timedelta(days=days):
                yield inside.replace(microsecond=rng.choice((0, 0, 999000)))


def flow_events(rng: random.Random, count: int) -> Iterator[dict[str, Any]]:
    for at in moments(rng, count):
        event: dict[str, Any] = {
            "timestamp": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "sensor_name": rng.choice(SENSORS),
            "namespace": rng.choice(("north", "South")),
            "lan_ip": f"10.0.{rng.randrange(3)}.{rng.randrange(30)}",
            "application_id_name": rng.choice(("dns", "https", "HTTPS", "ssh")),
            "direction": rng.choice(("ingress", "egress")),
            "events": rng.choice((1, 1, 1, 7)),
            "sum_bytes": rng.choice((0, 40, rng.randrange(10**4), rng.randrange(10**12))),
            "sum_pkts": rng.randrange(1000),
            "client_mac": f"02:00:00:00:{rng.randrange(4):02x}:{rng.randrange(256):02x}",
        }
        for key in list(event)[1:]:
            if rng.random() < 0.03:
                del event[key]
        yield event


def monitor_events(rng: random.Random, count: int) -> Iterator[dict[str, Any]]:
    for at in moments(rng, count):
        yield {
            "timestamp": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "sensor_name": rng.choice(SENSORS),
            "monitor": rng.choice(("cpu", "memory", "temperature")),
            "value": rng.choice((0.0, round(rng.uniform(-20, 100), 3), None)),
        }


def write_random_events(folder: Path, seed: int) -> dict[str, int]:
    """Write <data source>.jsonl.gz for both; how many events each holds."""
    rng = random.Random(seed)
    counts = {}
    for roll_up, events in ((FLOW, flow_events(rng, 2000)), (MONITOR, monitor_events(rng, 300))):
        lines = [json.dumps(each, ensure_ascii=False) for each in events]
        with gzip.open(folder / f"{roll_up.data_source}.jsonl.gz", "wt", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")
        counts[roll_up.data_source] = len(lines)
    return counts
