"""rb_monitor: what each sensor reports of itself every five minutes, drawn on demand; knows nothing of queries."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Optional

import numpy as np

from outliers.druid.simulator.labels import random_of
from outliers.druid.simulator.sensors import Sensor, rhythm
from outliers.druid.simulator.table import DAY_MS, Block, Numbers, Segment, Texts

if TYPE_CHECKING:
    from outliers.druid.simulator.traffic import Traffic

EVERY_MIN = 5
MONITORS = ("cpu", "memory", "load_1", "disk")


class MonitorTable:
    """Rows of all monitors of all sensors; the same segments as the flows'."""

    def __init__(self, traffic: Traffic) -> None:
        self._traffic = traffic

    def segments(self, start_ms: int, end_ms: int) -> Sequence[Segment]:
        return self._traffic.segments(start_ms, end_ms)

    def extent(self) -> Optional[tuple[int, int]]:
        return self._traffic.first_day * DAY_MS, int(self._traffic.now_s * 1000) + 1

    def blocks(self, start_ms: int, end_ms: int, sensors: Optional[frozenset[str]]) -> Iterator[Block]:
        end_ms = min(end_ms, int(self._traffic.now_s * 1000) + 1)
        for day in range(max(start_ms // DAY_MS, self._traffic.first_day), -(-end_ms // DAY_MS)):
            for sensor in self._traffic.sensors:
                if (sensors is None or sensor.name in sensors) and day >= self._traffic.installed_day(sensor):
                    yield _day(self._traffic.seed, sensor, day).between(start_ms, end_ms)


@lru_cache(maxsize=512)
def _day(seed: int, sensor: Sensor, day: int) -> Block:
    random = random_of(seed, sensor.name, day, "monitors")
    minute = np.arange(0, 1440, EVERY_MIN)
    busy = rhythm(sensor, day * 1440 + minute)
    cpu = np.clip(12 + 55 * busy + 4 * random.standard_normal(len(minute)), 0.5, 100)
    memory = np.clip(48 + 9 * busy + 1.2 * random.standard_normal(len(minute)), 5, 100)
    load = np.maximum(0.05, cpu / 25 * np.exp(0.2 * random.standard_normal(len(minute))))
    disk = np.full(len(minute), 61.0) + 0.01 * np.arange(len(minute)) / len(minute) + day % 28 * 0.5
    values = np.round(np.column_stack([cpu, memory, load, disk]), 3).reshape(-1)
    count = len(values)
    monitor = np.tile(np.arange(len(MONITORS), dtype=np.int8), len(minute))
    numbers = {name: Numbers(values, None) for name in ("sum_value", "max_value", "min_value")}
    return Block(
        day * DAY_MS,
        (day + 1) * DAY_MS,
        np.repeat((day * 1440 + minute) * 60_000, len(MONITORS)),
        {"sensor_name": Texts(np.zeros(count, np.int8), (sensor.name,)), "monitor": Texts(monitor, MONITORS)},
        {"events": Numbers(np.ones(count, np.int64), None), **numbers},
    )
