"""Whether a sensor is ever silent: what makes a bucket without events an anomaly by itself; knows nothing of models."""

from __future__ import annotations

import numpy as np

from outliers.druid.traffic import counting_of
from outliers.series import Series

MOST_SHARE = 0.03  # of the buckets
MOST_STRETCHES_A_DAY = 0.3  # more often is a habit, as a night or a weekend without traffic is
FEW_STRETCHES = 3
_LEAST_POINTS = 500
_DAY_S = 86_400


def rarely_empty(series: Series) -> bool:
    """Tell whether buckets in which every counting metric is 0 were rare exceptions, if there were any at all."""
    counts, _ = counting_of(None, series.metrics)
    known = np.isfinite(series.values[:, counts]).any(axis=1)
    if not counts.any() or known.sum() < _LEAST_POINTS:
        return False
    empty = known & (np.nan_to_num(series.values[:, counts]) == 0).all(axis=1)
    stretches = int((np.diff(empty.astype(np.int8), prepend=0) == 1).sum())
    days = known.sum() * series.step_s / _DAY_S
    return bool(
        empty.sum() <= MOST_SHARE * known.sum() and stretches <= max(FEW_STRETCHES, MOST_STRETCHES_A_DAY * days)
    )
