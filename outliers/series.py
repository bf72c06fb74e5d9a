"""A time series on its regular grid, and the granularity that makes the grid; knows nothing of JSON or HTTP."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Series:
    """Values of some metrics on a regular grid of buckets.

    timestamps: int64 [T], Unix seconds UTC of each bucket's start, ascending, one per bucket (calendar
        granularities have buckets of unequal length, but no bucket is left out).
    values: float64 [T, M], raw units, NaN = missing.
    metrics: the M names, in column order.
    granularity: canonical ISO text, e.g. "PT1M" (what a model's metadata is keyed by).
    step_s: nominal seconds of a bucket.
    """

    timestamps: NDArray[np.int64]
    values: NDArray[np.float64]
    metrics: tuple[str, ...]
    granularity: str
    step_s: int

    def __len__(self) -> int:
        return len(self.timestamps)

    def column(self, metric: str) -> int:
        """Position of `metric` in `values`; ValueError if the series does not have it."""
        return self.metrics.index(metric)
