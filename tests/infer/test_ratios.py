"""Traffic whose noise follows its level is judged by ratios, other series by differences."""

from __future__ import annotations

import numpy as np
import pytest

from outliers.infer import baseline, ratios
from outliers.infer.judge import judge
from tests.infer.traffic import series

DAY = 288  # points of five minutes


def multiplied(points: int = 4 * DAY, noise: float = 0.1, seed: int = 0) -> np.ndarray:
    """Nights at a tenth of the days, noise in proportion to the level."""
    rng = np.random.default_rng(seed)
    wave = np.exp(1.15 * np.sin(2 * np.pi * np.arange(points) / DAY))
    return 1000.0 * wave * np.exp(noise * rng.normal(size=points))


def added(points: int = 4 * DAY, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return 1000.0 + 400 * np.sin(2 * np.pi * np.arange(points) / DAY) + 20 * rng.normal(size=points)


def test_noise_that_follows_the_level_is_measured_by_ratios():
    offset = ratios.offsets(multiplied()[None])
    assert offset[0, 0] == pytest.approx(0.3 * np.median(multiplied()), rel=0.01)
    assert ratios.offsets(added()[None])[0, 0] == 0


@pytest.mark.parametrize(
    "values",
    [
        np.zeros(300),
        np.full(300, np.nan),
        np.full(300, 7.0),
        -multiplied(300),
        np.where(np.arange(300) % 3, 0.0, 5.0),
        np.random.default_rng(0).gamma(0.3, 100.0, 300),  # noise that itself doubles values
        np.array([1.0, 2.0]),
    ],
)
def test_ratios_of_what_has_none_are_not_asked_for(values):
    assert ratios.offsets(values[None])[0, 0] == 0


def test_raw_gives_back_what_was_made_a_ratio():
    values = np.stack([multiplied(), added()])
    values[0, 5] = np.nan
    offset = ratios.offsets(values)
    np.testing.assert_allclose(ratios.raw(ratios.as_ratios(values, offset), offset), values, rtol=1e-9)


def test_three_times_the_nights_traffic_is_flagged_without_a_model():
    values = multiplied()
    night = int(3.75 * DAY)
    values[night : night + 6] *= 3
    one = series(values, 300)
    scores, _ = baseline.score(one)
    flag = judge(one, scores, "m0").flag
    assert flag[night : night + 6].all() and flag.sum() < 20
    assert (scores.lower <= scores.expected).all() and (scores.upper >= scores.expected).all()
    assert (scores.lower >= 0).all()


def test_outage_of_traffic_judged_by_ratios_is_flagged_by_day_and_by_night():
    for start in (int(2.2 * DAY), int(2.75 * DAY)):
        values = multiplied()
        values[start : start + 6] = 0
        scores, _ = baseline.score(series(values, 300))
        assert (scores.score[start + 1 : start + 5] >= 1).all()
