from __future__ import annotations

import numpy as np
import pytest

from outliers.train.fit import moving_level, recent_points
from outliers.train.scaling import fit_scaling
from outliers.train.trim import suspicious
from tests.train.sensors import sensor

pytestmark = pytest.mark.trainer


def trimmed(values: np.ndarray) -> np.ndarray:
    s = sensor("PT5M", 14)
    scaling = fit_scaling(s.timestamps, values, s.step_s)
    g = scaling.deviations(s.timestamps, values, s.step_s)
    return suspicious(g, moving_level(g, recent_points(300)), 300)[:, 0]


def test_clean_traffic_is_hardly_trimmed() -> None:
    assert trimmed(sensor("PT5M", 14).values).mean() < 0.01


@pytest.mark.parametrize("factor", [10.0, 0.0])
def test_attack_of_six_hours_is_trimmed_whole(factor: float) -> None:
    values = sensor("PT5M", 14).values.copy()
    values[2000:2072] *= factor
    out = trimmed(values)
    assert out[2000:2072].mean() > 0.95
    assert np.delete(out, range(1980, 2092)).mean() < 0.02


def test_new_level_that_reaches_the_end_and_is_older_than_a_day_is_kept() -> None:
    values = sensor("PT5M", 14).values.copy()
    values[-2 * 288 :] *= 4
    assert trimmed(values)[-288:].mean() < 0.2
    fresh = sensor("PT5M", 14).values.copy()
    fresh[-60:] *= 10
    assert trimmed(fresh)[-50:].mean() > 0.9
