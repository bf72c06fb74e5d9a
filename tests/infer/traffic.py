"""Generated series for the detector's tests: noise, days and known excursions; knows no detector."""

from __future__ import annotations

import numpy as np

from outliers.series import Series

MONDAY = 1_700_438_400  # a Monday, midnight UTC


def series(values: np.ndarray, step_s: int = 60, metrics: tuple[str, ...] = ()) -> Series:
    values = np.asarray(values, dtype=np.float64)
    values = values[:, None] if values.ndim == 1 else values
    metrics = metrics or tuple(f"m{i}" for i in range(values.shape[1]))
    return Series(MONDAY + step_s * np.arange(len(values)), values, metrics, f"PT{step_s}S", step_s)


def traffic(points: int, step_s: int = 60, seed: int = 0, day: float = 0.4, noise: float = 0.05) -> np.ndarray:
    """Traffic around 1,000 with a daily wave and noise, [points]."""
    rng = np.random.default_rng(seed)
    wave = 1.0 + day * np.sin(2 * np.pi * step_s * np.arange(points) / 86_400)
    return 1000.0 * wave * (1.0 + noise * rng.normal(size=points))


def odd_series(rng: np.random.Generator) -> np.ndarray:
    """Values of any shape that a query may have, [T, M]: any length from 0, gaps, flat, sparse, huge, tiny."""
    points, metrics = int(rng.choice([0, 1, 2, 3, 8, 60, 130, 400])), int(rng.choice([1, 1, 3]))
    values = rng.gamma(2.0, 50.0, (points, metrics))
    kind = int(rng.integers(8))
    if kind == 1:
        values = (rng.random((points, metrics)) < 0.03).astype(float)
    elif kind == 2:
        values = 1e9 + rng.integers(0, 3, (points, metrics)).astype(float)
    elif kind == 3:
        values *= 10.0 ** int(rng.integers(-12, 13))
    elif kind == 4:
        values[:] = 7.5
    elif kind == 5:
        values[rng.random((points, metrics)) < 0.4] = np.nan
    elif kind == 6:
        values[:] = 0.0
    elif kind == 7:
        values[:] = np.nan
    values[rng.random((points, metrics)) < 0.01] *= 10.0
    return values
