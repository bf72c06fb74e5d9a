from __future__ import annotations

import numpy as np
import pytest

from outliers.series import Series
from outliers.train import ratios
from tests.train.sensors import GRANULARITIES, START_S, with_values

pytestmark = pytest.mark.trainer


def steep(granularity: str, days: int = 21, noise: float = 0.08, seed: int = 0) -> Series:
    """A night at a hundredth of the day, noise in proportion; beside it a metric whose noise is the same all day."""
    step_s = GRANULARITIES[granularity]
    t = START_S + step_s * np.arange(days * 86_400 // step_s)
    rng = np.random.default_rng(seed)
    wave = np.sin(2 * np.pi * t / 86_400)
    values = np.stack(
        [
            1e6 * np.exp(2.3 * wave) * np.exp(noise * rng.standard_normal(len(t))),
            100 + 20 * wave + rng.standard_normal(len(t)),
        ],
        1,
    )
    return Series(t, values, ("bytes", "load"), granularity, step_s)


def test_metric_is_judged_by_ratios_at_all_granularities_or_at_none() -> None:
    found = ratios.offsets([steep("PT5M"), steep("PT15M"), steep("PT1H")])
    assert all(offset[0] > 0 and offset[1] == 0 for offset in found)


def test_metric_that_one_granularity_of_three_wants_by_ratios_is_judged_by_differences() -> None:
    plain = [with_values(s, np.roll(s.values, 1, axis=1)[:, ::1]) for s in (steep("PT5M"), steep("PT15M"))]
    found = ratios.offsets([*plain, steep("PT1H")])
    assert all(offset[0] == 0 for offset in found)


def test_night_of_a_sensor_judged_by_ratios_is_watched_as_its_day_is() -> None:
    from export.parity import torch_scores
    from outliers.train.fit import FitSettings, fit

    series = steep("PT5M")
    model = fit({"PT5M": series}, FitSettings(epochs=2, max_steps=60))
    assert model.parameters.offset[0, 0] > 0 and model.parameters.offset[0, 1] == 0
    values = series.values.copy()
    night, day = 18 * 288 + 216, 18 * 288 + 72
    for at in (night, day):
        values[at : at + 6, 0] *= 3
    scores = torch_scores(model, with_values(series, values), 1.25, "whole")
    assert (scores.score[night : night + 6, 0] >= 1).all() and (scores.score[day : day + 6, 0] >= 1).all()
    calm = torch_scores(model, series, 1.25, "whole")
    assert (calm.score >= 1).mean() < 0.01
    assert (calm.lower[:, 0] >= 0).all() and (calm.lower <= calm.expected).all() and (calm.expected <= calm.upper).all()
    error = np.abs(np.log(calm.expected[:, 0] / series.values[:, 0]))
    assert np.median(error) < 0.12  # of the night's values as of the day's
