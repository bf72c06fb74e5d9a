"""Small sensors with a known rhythm and noise, for tests that fit models; it must not know the models."""

from __future__ import annotations

from typing import Optional

import numpy as np

from outliers.series import Series

GRANULARITIES = {"PT1M": 60, "PT5M": 300, "PT15M": 900, "PT1H": 3600}
START_S = 1_700_006_400  # midnight UTC


def sensor(
    granularity: str = "PT5M",
    days: float = 14,
    metrics: int = 1,
    noise: float = 0.05,
    seed: int = 0,
    start_s: int = START_S,
    missing: float = 0.0,
    level: Optional[float] = None,
) -> Series:
    """Traffic with a day's course, noise proportional to its level, metrics that go together."""
    step_s = GRANULARITIES[granularity]
    points = int(days * 86_400 / step_s)
    timestamps = start_s + step_s * np.arange(points)
    random = np.random.default_rng(seed)
    course = (level or 1e6) * (1 + 0.5 * np.sin(2 * np.pi * timestamps / 86_400))
    common = course * (1 + noise * random.standard_normal(points))
    factor = 10.0 ** -np.arange(metrics)
    values = common[:, None] * factor * (1 + 0.5 * noise * random.standard_normal((points, metrics)))
    values[random.random(values.shape) < missing] = np.nan
    names = ("bytes", "pkts", "flows", "clients", "bps", "pps", "fps", "a", "b", "c", "d")[:metrics]
    return Series(timestamps, values, names, granularity, step_s)


def part(series: Series, start: int, stop: int) -> Series:
    """Points `start` to `stop`, not included."""
    return Series(
        series.timestamps[start:stop], series.values[start:stop], series.metrics, series.granularity, series.step_s
    )


def with_values(series: Series, values: np.ndarray) -> Series:
    return Series(series.timestamps, values, series.metrics, series.granularity, series.step_s)
