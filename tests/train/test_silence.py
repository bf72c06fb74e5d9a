"""When a bucket without events is an exception, and when it is a habit."""

from __future__ import annotations

import numpy as np
import pytest

from outliers.series import Series
from outliers.train.silence import rarely_empty

DAY = 1440


def week(empty: list[tuple[int, int]], metrics: tuple[str, ...] = ("bytes", "flows", "bps")) -> Series:
    """A week by the minute in which nothing happened from one minute to another."""
    values = np.full((7 * DAY, len(metrics)), 50.0)
    for start, stop in empty:
        values[start:stop] = 0.0
    return Series(np.arange(7 * DAY) * 60, values, metrics, "PT1M", 60)


@pytest.mark.parametrize(
    ("empty", "rare"),
    [
        ([], True),
        ([(3000, 3040)], True),
        ([(day * DAY, day * DAY + 5) for day in range(7)], False),  # every night
        ([(5 * DAY, 7 * DAY)], False),  # the weekend
    ],
)
def test_rarely_empty_tells_exceptions_from_habits(empty, rare):
    assert rarely_empty(week(empty)) is rare


def test_rarely_empty_needs_a_metric_that_counts_and_some_past():
    assert not rarely_empty(week([], metrics=("temperature",)))
    short = week([])
    assert not rarely_empty(Series(short.timestamps[:99], short.values[:99], short.metrics, "PT1M", 60))
