"""Generated traffic as tables: every day of every sensor is drawn on demand from the seed; knows nothing of queries.

Nothing is held but a cache of days, so any interval of months can be asked. A row is one host's minute, so that sums
and distinct counts agree at every granularity, and the same rows written as events load into a real Druid.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Optional

import numpy as np
from numpy.typing import NDArray

from outliers.druid.simulator.labels import DAY_S, Label, labels_of, random_of
from outliers.druid.simulator.monitors import MonitorTable
from outliers.druid.simulator.sensors import APPLICATIONS, DIRECTIONS, SENSORS, Sensor, rhythm
from outliers.druid.simulator.sketch import registers_of
from outliers.druid.simulator.table import DAY_MS, Block, Numbers, Segment, Sketch, Table, Texts

HISTORY_DAYS = 100
_CACHED_ROWS = 1_500_000  # some 70 MB: eight weeks of the sensor with the most hosts
_SLOT_MIN = 30  # a host is there, or not, for so long
_KNOTS = 48  # of the slow wander, a day
_APP_SHARES = np.cumsum([0.62, 0.2, 0.06, 0.05, 0.04, 0.03])


@dataclass(frozen=True)
class Minutes:
    """A day of one sensor before it is split among hosts, [1440] each: bytes and flows expected, presence of hosts."""

    bytes: NDArray[np.float64]
    flows: NDArray[np.float64]
    presence: NDArray[np.float64]
    extra_bytes: NDArray[np.float64]  # of one host: the culprit
    extra_flows: NDArray[np.float64]


class Traffic:
    """All sensors. now: Unix seconds at which time stands still; None = the clock's."""

    def __init__(self, seed: int = 0, now: Optional[float] = None, sensors: Sequence[Sensor] = SENSORS) -> None:
        self.seed, self.sensors = seed, tuple(sensors)
        self._fixed_now = now
        self.today = int(self.now_s) // DAY_S
        self._days: OrderedDict[tuple[str, int], Block] = OrderedDict()
        self.cached_rows = 0
        self._lock = threading.Lock()
        self._hosts = {sensor.name: _Hosts(sensor) for sensor in sensors}

    @property
    def now_s(self) -> float:
        return time.time() if self._fixed_now is None else self._fixed_now

    @property
    def first_day(self) -> int:
        """Days since 1970 of the first day with data."""
        return self.today - HISTORY_DAYS

    def installed_day(self, sensor: Sensor) -> int:
        """Days since 1970 of a sensor's first day."""
        return self.first_day if sensor.age_days is None else self.today - sensor.age_days

    def tables(self) -> dict[str, Table]:
        """The data sources by name."""
        return {"rb_flow": FlowTable(self), "rb_monitor": MonitorTable(self)}

    def segments(self, start_ms: int, end_ms: int) -> Sequence[Segment]:
        """One segment a day, up to today's; some sensor sends in every minute until now."""
        last_ms = int(self.now_s) // 60 * 60_000
        first_day, last_day = max(self.first_day, start_ms // DAY_MS), min(last_ms, end_ms - 1) // DAY_MS
        return [
            Segment(day * DAY_MS, (day + 1) * DAY_MS, day * DAY_MS, min((day + 1) * DAY_MS - 60_000, last_ms))
            for day in range(first_day, last_day + 1)
        ]

    def labels(
        self, start_s: Optional[float] = None, end_s: Optional[float] = None, sensor: Optional[str] = None
    ) -> list[Label]:
        """Injected anomalies that touch [start_s, end_s), by time; default: the 28 days before now."""
        end_s = self.now_s if end_s is None else end_s
        start_s = end_s - 28 * DAY_S if start_s is None else start_s
        found = [
            label
            for each in self.sensors
            if sensor is None or each.name == sensor
            for day in range(max(int(start_s) // DAY_S, self.installed_day(each)), int(end_s) // DAY_S + 1)
            for label in labels_of(self.seed, each, day)
            if label.end_s > start_s and label.start_s < end_s
        ]
        return sorted(found, key=lambda label: (label.start_s, label.sensor))

    def day(self, sensor: Sensor, day: int) -> Block:
        """All rows of one sensor's day, the future ones too; kept while there is room."""
        key = (sensor.name, day)
        with self._lock:
            block = self._days.get(key)
            if block is not None:
                self._days.move_to_end(key)
                return block
        block = self._drawn(sensor, day)
        with self._lock:
            if key not in self._days:
                self._days[key] = block
                self.cached_rows += len(block)
            while self.cached_rows > _CACHED_ROWS:
                self.cached_rows -= len(self._days.popitem(last=False)[1])
        return block

    def minutes(self, sensor: Sensor, day: int) -> Minutes:
        """What a day's minutes should hold in all."""
        minute = day * 1440 + np.arange(1440)
        shape = rhythm(sensor, minute)
        random = random_of(self.seed, sensor.name, day, "noise")
        fast = sensor.noise * np.clip(random.standard_t(6, 1440), -4, 4)
        level = shape * np.exp(self._wander(sensor, day) + fast)
        bytes_ = sensor.level_bytes * level
        flows = sensor.level_bytes / sensor.flow_bytes * level**0.85 * np.exp(0.04 * random.standard_normal(1440))
        presence, extra_bytes, extra_flows = 0.08 + 0.62 * shape, np.zeros(1440), np.zeros(1440)
        for label in labels_of(self.seed, sensor, day):
            at = slice((label.start_s - day * DAY_S) // 60, (label.end_s - day * DAY_S) // 60)
            if label.factor < 1:
                bytes_[at] *= label.factor
                flows[at] *= label.factor
                presence[at] *= max(label.factor, 0.3) if label.factor else 0.0
                continue
            # Never less than a part of the busy level: eight times the night's nothing is still nothing.
            base = np.maximum(bytes_[at], 0.3 * sensor.level_bytes) * (label.factor - 1)
            share = {"spike": 0.3, "scan": 1.0, "exfiltration": 1.0}[label.kind]
            bytes_[at] += (1 - share) * base
            extra_bytes[at] += share * base
            many = {"spike": 0.8, "scan": 12.0, "exfiltration": 0.05}[label.kind]
            extra_flows[at] += many * base / sensor.flow_bytes
        return Minutes(bytes_, flows, presence, extra_bytes, extra_flows)

    def _wander(self, sensor: Sensor, day: int) -> NDArray[np.float64]:
        """A slow deviation, the same on both sides of midnight."""
        knots = [random_of(self.seed, sensor.name, d, "wander").standard_normal(_KNOTS) for d in (day, day + 1)]
        points = np.append(knots[0], knots[1][0]) * 0.6 * sensor.noise
        return np.interp(np.arange(1440), np.arange(_KNOTS + 1) * (1440 / _KNOTS), points)

    def _drawn(self, sensor: Sensor, day: int) -> Block:
        minutes, hosts = self.minutes(sensor, day), self._hosts[sensor.name]
        random = random_of(self.seed, sensor.name, day, "rows")
        active = self._active(sensor, minutes, random)
        culprit = int(random.integers(sensor.servers, sensor.clients))
        active[minutes.extra_bytes > 0, culprit] = True
        minute, host = np.nonzero(active)  # sorted by minute
        weight = hosts.weight[host] * np.exp(0.5 * random.standard_normal(len(host)))
        share = weight / np.bincount(minute, weights=weight, minlength=1440)[minute]
        extra = host == culprit
        bytes_ = minutes.bytes[minute] * share + np.where(extra, minutes.extra_bytes[minute], 0.0)
        expected = minutes.flows[minute] * share + np.where(extra, minutes.extra_flows[minute], 0.0)
        flows = np.maximum(1, random.poisson(expected))
        packet_bytes = np.clip(720 * np.exp(0.15 * random.standard_normal(len(host))), 60, 1500)
        whole = np.maximum(40, bytes_).astype(np.int64)
        application = np.searchsorted(_APP_SHARES, random.random(len(host)) * 0.999999, side="right")
        count = len(host)
        return Block(
            day * DAY_MS,
            (day + 1) * DAY_MS,
            (day * 1440 + minute) * 60_000,
            {
                "sensor_name": Texts(np.zeros(count, np.int8), (sensor.name,)),
                "namespace": Texts(np.zeros(count, np.int8), (sensor.namespace,)),
                "lan_ip": Texts(host.astype(np.int16), hosts.addresses),
                "application_id_name": Texts(application.astype(np.int8), APPLICATIONS),
                "direction": Texts((random.random(count) < 0.5).astype(np.int8), DIRECTIONS),
            },
            {
                "events": Numbers(flows.astype(np.int64), None),
                "sum_bytes": Numbers(whole, None),
                "sum_pkts": Numbers(np.maximum(flows, whole / packet_bytes).astype(np.int64), None),
            },
            {"clients": Sketch(np.arange(count), hosts.register[host], hosts.rank[host])},
        )

    def _active(self, sensor: Sensor, minutes: Minutes, random: np.random.Generator) -> NDArray[np.bool_]:
        """Which hosts send in which minute, bool [1440, hosts]."""
        slots = 1440 // _SLOT_MIN
        there = random.random((slots, sensor.clients), np.float32) < minutes.presence[::_SLOT_MIN, None]
        there[:, : sensor.servers] = True
        active = np.repeat(there, _SLOT_MIN, axis=0) & (
            random.random((1440, sensor.clients), np.float32) < self._hosts[sensor.name].activity
        )
        if sensor.servers:
            active[:, 0] = True  # one server never sleeps: a quiet minute is not an empty one
        active[minutes.presence == 0] = False
        return active

    def seconds(self, sensor: Sensor, day: int, rows: int) -> NDArray[np.int64]:
        """The second of its minute at which each row of a day arrives, int64 [R]."""
        return random_of(self.seed, sensor.name, day, "seconds").integers(0, 60, rows)

    def host_names(self, sensor: Sensor) -> tuple[str, ...]:
        """MAC addresses of a sensor's hosts, in the order of their IP addresses."""
        return self._hosts[sensor.name].macs


class _Hosts:
    """The hosts behind one sensor: as old as the sensor's name, whatever the seed."""

    def __init__(self, sensor: Sensor) -> None:
        random = random_of(0, sensor.name, 0, "hosts")
        network = int(random.integers(0, 256))
        self.addresses = tuple(f"10.{network}.{i // 250}.{i % 250 + 1}" for i in range(sensor.clients))
        self.macs = tuple(f"02:{network:02x}:00:00:{i // 256:02x}:{i % 256:02x}" for i in range(sensor.clients))
        self.weight = np.exp(0.8 * random.standard_normal(sensor.clients))
        self.activity = random.uniform(0.35, 0.9, sensor.clients).astype(np.float32)
        pairs = np.array([registers_of(mac.encode()) for mac in self.macs])
        self.register, self.rank = pairs[:, 0].astype(np.int16), pairs[:, 1].astype(np.int8)


class FlowTable:
    """rb_flow: segments of a day, up to the one in which now lies; rows up to now."""

    def __init__(self, traffic: Traffic) -> None:
        self._traffic = traffic

    def segments(self, start_ms: int, end_ms: int) -> Sequence[Segment]:
        return self._traffic.segments(start_ms, end_ms)

    def extent(self) -> Optional[tuple[int, int]]:
        return self._traffic.first_day * DAY_MS, int(self._traffic.now_s * 1000) + 1

    def blocks(self, start_ms: int, end_ms: int, sensors: Optional[frozenset[str]]) -> Iterator[Block]:
        now_ms = int(self._traffic.now_s * 1000)
        end_ms = min(end_ms, now_ms + 1)
        for day in range(max(start_ms // DAY_MS, self._traffic.first_day), -(-end_ms // DAY_MS)):
            for sensor in self._traffic.sensors:
                if (sensors is None or sensor.name in sensors) and day >= self._traffic.installed_day(sensor):
                    block = self._traffic.day(sensor, day).between(start_ms, end_ms)
                    if (day + 1) * DAY_MS > now_ms:
                        block = self._arrived(block, sensor, day, now_ms)
                    yield block

    def _arrived(self, block: Block, sensor: Sensor, day: int, now_ms: int) -> Block:
        """Without the rows of the running minute that are still to come."""
        minute_ms = now_ms // 60_000 * 60_000
        low = int(np.searchsorted(block.time_ms, minute_ms))
        if low == len(block):
            return block
        whole = self._traffic.day(sensor, day)
        seconds = self._traffic.seconds(sensor, day, len(whole))
        first = int(np.searchsorted(whole.time_ms, minute_ms))
        late = seconds[first : first + len(block) - low] * 1000 > now_ms - minute_ms
        keep = np.flatnonzero(np.append(np.ones(low, bool), ~late))
        return replace(
            block,
            time_ms=block.time_ms[keep],
            texts={name: Texts(t.codes[keep], t.values) for name, t in block.texts.items()},
            numbers={name: Numbers(n.values[keep], None) for name, n in block.numbers.items()},
            sketches={
                name: Sketch(np.arange(len(keep)), s.register[keep], s.rank[keep]) for name, s in block.sketches.items()
            },
        )
