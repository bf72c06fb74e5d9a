"""Which anomalies are injected when: drawn from seed, sensor and day alone; knows nothing of rows."""

from __future__ import annotations

import zlib
from typing import NamedTuple

import numpy as np

from outliers.druid.simulator.sensors import Sensor, rhythm

DAY_S = 86_400


class Label(NamedTuple):
    """One injected anomaly over [start_s, end_s), Unix seconds on whole minutes.

    kind: `spike` (more of everything), `scan` (many small flows of one host), `exfiltration` (many bytes of one
    host), `dip` (less of everything) or `outage` (silence). factor: what the bytes are multiplied with.
    """

    sensor: str
    start_s: int
    end_s: int
    kind: str
    factor: float


# kind: (shortest, longest in minutes; least, largest factor of the bytes)
_KINDS = {
    "spike": (10, 40, 4.0, 9.0),
    "scan": (15, 60, 2.5, 3.5),
    "exfiltration": (20, 90, 3.5, 7.0),
    "dip": (20, 90, 0.08, 0.2),
    "outage": (20, 90, 0.0, 0.0),
}
_WEIGHTS = {"spike": 0.35, "scan": 0.2, "exfiltration": 0.2, "dip": 0.1, "outage": 0.15}
_APART_S = 3 * 3600


def random_of(seed: int, sensor: str, day: int, stream: str) -> np.random.Generator:
    """A source of random numbers that depends on nothing but its arguments."""
    entropy = [seed & 0xFFFFFFFF, zlib.crc32(sensor.encode()), day & 0xFFFFFFFF, zlib.crc32(stream.encode())]
    return np.random.Generator(np.random.SFC64(np.random.SeedSequence(entropy)))


def labels_of(seed: int, sensor: Sensor, day: int) -> list[Label]:
    """What is injected into one sensor on one day (UTC, days since 1970), by time; at least three hours apart."""
    random = random_of(seed, sensor.name, day, "labels")
    labels: list[Label] = []
    for _ in range(min(int(random.poisson(sensor.anomalies_per_day)), 3)):
        kind = "outage" if sensor.outages else str(random.choice(list(_WEIGHTS), p=list(_WEIGHTS.values())))
        shortest, longest, least, largest = _KINDS[kind]
        minutes = int(random.integers(shortest, longest + 1))
        start_min = _start_minute(random, sensor, day, minutes, kind)
        factor = round(float(random.uniform(least, largest)), 2)
        start_s = day * DAY_S + start_min * 60
        label = Label(sensor.name, start_s, start_s + minutes * 60, kind, factor)
        if all(abs(other.start_s - start_s) >= _APART_S for other in labels):
            labels.append(label)
    return sorted(labels, key=lambda each: each.start_s)


def _start_minute(random: np.random.Generator, sensor: Sensor, day: int, minutes: int, kind: str) -> int:
    """Any time of the day for more traffic; for less, a time at which there is some to miss."""
    starts = np.arange(1440 - minutes)
    if kind in ("dip", "outage"):
        busy = rhythm(sensor, day * 1440 + starts)
        enough = np.flatnonzero((busy >= 0.5 * busy.max()) & (np.roll(busy, -minutes) >= 0.4 * busy.max()))
        starts = enough if len(enough) else starts
    return int(random.choice(starts))
