from __future__ import annotations

import numpy as np
import pytest

from export.parity import torch_scores
from outliers.series import Series
from outliers.train import habit
from outliers.train.fit import FitSettings, Fitted, fit
from tests.train.sensors import sensor, with_values

pytestmark = pytest.mark.trainer

DAYS, DAY = 10, 288
QUICK = FitSettings(epochs=2, max_steps=60)


def nightly(series: Series, factor: float) -> Series:
    """A quarter of an hour of more traffic every night, within half an hour of 02:00."""
    values, rng = series.values.copy(), np.random.default_rng(0)
    for day in range(len(series) // DAY):
        start = day * DAY + 24 + int(rng.integers(-6, 7))
        values[start : start + 3] *= factor
    return with_values(series, values)


@pytest.fixture(scope="module")
def backed_up() -> tuple[Series, Fitted]:
    series = nightly(sensor("PT5M", DAYS), 1.6)
    return series, fit({"PT5M": series}, QUICK)


def test_nightly_backup_is_no_anomaly_to_a_model_that_has_seen_it_every_night(backed_up) -> None:
    series, model = backed_up
    found = model.parameters.habit
    assert (found[0, 0, :5] > 1).all() and (found[0, 0, 6:22] == 1).all()
    assert (torch_scores(model, series, 1.25, "whole").score >= 1).mean() < 0.003


def test_the_same_traffic_at_noon_and_more_of_it_at_night_are_anomalies(backed_up) -> None:
    series, model = backed_up
    values = series.values.copy()
    noon, night = 8 * DAY + 144, 8 * DAY + 24
    values[noon : noon + 3] *= 1.6
    values[night : night + 6] *= 4
    scores = torch_scores(model, with_values(series, values), 1.25, "whole").score
    assert (scores[noon : noon + 3] >= 1).any() and (scores[night : night + 6] >= 1).any()


def test_attack_of_three_nights_is_not_learned_as_a_habit() -> None:
    series = sensor("PT5M", DAYS)
    values, every = series.values.copy(), nightly(series, 4.0).values
    for day in (2, 5, 7):
        values[day * DAY : (day + 1) * DAY] = every[day * DAY : (day + 1) * DAY]
    model = fit({"PT5M": with_values(series, values)}, QUICK)
    assert (model.parameters.habit[0, 0] == 1).all()


def test_model_of_two_days_has_no_habits() -> None:
    model = fit({"PT5M": nightly(sensor("PT5M", 2), 4.0)}, QUICK)
    np.testing.assert_array_equal(model.parameters.habit, habit.none(1, 1))
