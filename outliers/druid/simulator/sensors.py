"""The sensors of the generated traffic: how large, of what rhythm, how often disturbed; nothing is drawn here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

import numpy as np
from numpy.typing import NDArray

APPLICATIONS = ("https", "dns", "smtp", "ssh", "smb", "ntp")
DIRECTIONS = ("ingress", "egress")


@dataclass(frozen=True)
class Sensor:
    """One flow sensor.

    level_bytes: bytes a minute at its busiest. flow_bytes: mean bytes of a flow. clients: hosts behind it.
    servers: how many of them are always there. shape: its day, see `rhythm`. utc_offset_h: where its clock is.
    weekend: what is left on Saturday and Sunday. noise: spread of a minute around its expectation, relative.
    anomalies_per_day: how often something is injected; outages: whether that is always silence.
    age_days: installed so long before `now`; None = as long as there is any data.
    """

    name: str
    namespace: str
    level_bytes: float
    flow_bytes: float
    clients: int
    servers: int
    shape: str
    utc_offset_h: float = 0.0
    weekend: float = 1.0
    noise: float = 0.12
    anomalies_per_day: float = 0.3
    outages: bool = False
    age_days: Optional[int] = None


SENSORS = (
    Sensor("hq-madrid", "Spain", 2.4e9, 24e3, 60, 4, "office", 1.0, 0.22, 0.10, 0.4),
    Sensor("branch-lyon", "France", 1.8e8, 16e3, 24, 2, "office", 1.0, 0.15, 0.14, 0.3),
    Sensor("branch-oslo", "Norway", 6.5e7, 14e3, 16, 2, "office", 1.0, 0.3, 0.16, 0.3, outages=True),
    Sensor("datacenter-1", "Spain", 5.2e9, 60e3, 32, 12, "backup", 0.0, 0.9, 0.06, 0.25),
    Sensor("campus-lima", "Peru", 4.1e8, 20e3, 48, 2, "evening", -5.0, 1.25, 0.13, 0.3),
    Sensor("quiet-lab", "Norway", 3.0e7, 12e3, 10, 2, "flat", 0.0, 0.8, 0.10, 0.0),
    Sensor("warehouse", "France", 2.5e6, 6e3, 5, 0, "office", 1.0, 0.05, 0.35, 0.1),
    Sensor("new-office", "Spain", 1.2e8, 15e3, 18, 2, "office", 1.0, 0.2, 0.13, 0.3, age_days=3),
)


def rhythm(sensor: Sensor, minute_utc: NDArray[np.int64]) -> NDArray[np.float64]:
    """Expected traffic as a share of the busiest minute's, float64 [T]; minutes since 1970, UTC."""
    local_min = minute_utc + int(sensor.utc_offset_h * 60)
    hour = (local_min % 1440) / 60.0
    weekday = (local_min // 1440 + 3) % 7  # 1970-01-01 was a Thursday
    if sensor.shape == "office":
        day = 0.06 + 0.94 * (_step(hour, 8.2, 0.55) - _step(hour, 17.8, 0.8)) * (1 - 0.25 * _bump(hour, 13.5, 0.7))
    elif sensor.shape == "evening":
        day = 0.12 + 0.88 * np.maximum(_bump(hour, 20.5, 2.6), 0.55 * _bump(hour, 13.0, 3.0))
    elif sensor.shape == "backup":
        day = 0.55 + 0.1 * _bump(hour, 15.0, 4.0) + 0.4 * (_step(hour, 2.0, 0.05) - _step(hour, 3.5, 0.05))
    else:
        day = 0.8 + 0.1 * np.sin(2 * np.pi * hour / 24)
    week = np.where(weekday >= 5, sensor.weekend, 1.0 - 0.03 * np.abs(weekday - 2))
    return np.asarray(np.clip(day * week, 0.0, 1.3), np.float64)


def _step(hour: NDArray[np.float64], at: float, width: float) -> NDArray[np.float64]:
    return np.asarray(1 / (1 + np.exp(-(hour - at) / width)), np.float64)


def _bump(hour: NDArray[np.float64], at: float, width: float) -> NDArray[np.float64]:
    away = np.abs(hour - at)
    away = np.minimum(away, 24 - away)
    return np.asarray(np.exp(-0.5 * (away / width) ** 2), np.float64)
