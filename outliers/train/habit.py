"""What happens on most days at about the same hour: a nightly backup is no anomaly; it must not know the network.

Such excursions leave and return, so the trim takes them for suspicious and no fit ever sees them. They are found by the
distance that the fitted model gives its own training time, nothing left out, and move the line at their hours.
"""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import numpy as np
from numpy.typing import NDArray

from export.parameters import Parameters
from export.parity import torch_scores
from outliers.infer import habit
from outliers.infer.metadata import MODES
from outliers.series import Series, lead_in_s
from outliers.train.measure import LONGEST
from outliers.train.scaling import Floats


def none(granularities: int, metrics: int) -> NDArray[np.float32]:
    """No habit anywhere: factors [2, G, 24, M] of 1."""
    return np.ones((2, granularities, habit.HOURS, metrics), np.float32)


def with_habits(p: Parameters, series: list[Series]) -> Parameters:
    """The same parameters with the table of habits found in the training series, one per granularity, raw units."""
    found = none(len(series), p.metrics)
    fitted = SimpleNamespace(parameters=p)
    for i, s in enumerate(series):
        if not len(s) or s.timestamps[-1] - s.timestamps[0] < habit.LEAST_DAYS * 86_400:
            continue
        for mode, name in enumerate(MODES):
            found[mode, i] = habit.of_day(_distances(fitted, s, name), s.timestamps)
    return dataclasses.replace(p, habit=found)


def _distances(fitted: SimpleNamespace, s: Series, mode: str) -> Floats:
    """The distance of every point [T, M] at k = 1, in pieces with a lead-in."""
    distance = np.full(s.values.shape, np.nan)
    for start in range(0, len(s), LONGEST):
        first = max(0, start - lead_in_s(s.step_s) // s.step_s)
        rows = slice(first, start + LONGEST)
        piece = dataclasses.replace(s, timestamps=s.timestamps[rows], values=s.values[rows])
        distance[start : start + LONGEST] = torch_scores(fitted, piece, 1.0, mode).score[start - first :]
    return distance
