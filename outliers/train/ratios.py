"""Which metrics a model judges by ratios, at all its granularities alike; the rule itself is `infer.ratios`."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from outliers.infer import ratios
from outliers.series import Series
from outliers.train.levels import moving_level, recent_points
from outliers.train.scaling import Floats, fit_scaling


def offsets(series: list[Series]) -> list[Floats]:
    """The offset [M] of each granularity in raw units, 0 = judged by differences.

    A metric is judged by ratios at all granularities or at none, as most of them want it: what one learns of the
    week the others can use.
    """
    values = [np.ascontiguousarray(s.values.T) for s in series]
    wanted = np.array([ratios.offsets(v, _noise_of(s))[:, 0] > 0 for s, v in zip(series, values)])
    chosen = 2 * wanted.sum(0) > len(series)
    middle = np.array([np.nan_to_num(ratios.quantiles(v, (0.5,))[0])[:, 0] for v in values])
    chosen &= (middle > 0).all(0)
    return [np.where(chosen, ratios.OFFSET * m, 0.0) for m in middle]


def _noise_of(s: Series) -> Callable[[Floats], Floats]:
    """What rhythm and the level of two hours leave of values [M, T] at the times of a series."""

    def noise(values: Floats) -> Floats:
        scaling = fit_scaling(s.timestamps, values.T, s.step_s)
        course = scaling.daily.at(s.timestamps, s.step_s) + scaling.weekly.at(s.timestamps, s.step_s)
        g = (values.T - scaling.center) / scaling.spread - course
        return ((g - moving_level(g, recent_points(s.step_s))) * scaling.spread).T

    return noise
