from __future__ import annotations

import numpy as np
import pytest

from outliers.train.scaling import fit_scaling, sorted_quantiles
from tests.train.sensors import START_S, sensor

pytestmark = pytest.mark.trainer


def test_rhythm_of_the_day_is_learned_where_it_predicts() -> None:
    s = sensor("PT5M", 14, noise=0.02)
    scaling = fit_scaling(s.timestamps, s.values, s.step_s)
    g = scaling.deviations(s.timestamps, s.values, s.step_s)
    plain = (s.values - scaling.center) / scaling.spread
    assert np.std(g) < 0.1 * np.std(plain)


def test_rhythm_is_not_learned_from_noise_or_from_two_days() -> None:
    rng = np.random.default_rng(0)
    t = START_S + 300 * np.arange(14 * 288)
    noise = rng.standard_normal((len(t), 2))
    assert not fit_scaling(t, noise, 300).daily.table.any()
    short = sensor("PT5M", 2)
    assert not fit_scaling(short.timestamps, short.values, 300).daily.table.any()


def test_weekly_rhythm_is_learned_from_weekends() -> None:
    t = START_S + 3600 * np.arange(8 * 168)
    weekend = ((t // 86_400 + 4) % 7 >= 5).astype(float)
    values = (100 - 60 * weekend + np.random.default_rng(1).standard_normal(len(t)))[:, None]
    scaling = fit_scaling(t, values, 3600)
    g = scaling.deviations(t, values, 3600) * scaling.spread
    assert np.std(g) < 10 < np.std(values)


def test_rhythm_survives_gaps_and_one_wild_day() -> None:
    s = sensor("PT5M", 14, noise=0.02, missing=0.3)
    values = s.values.copy()
    values[288 * 5 : 288 * 6] *= 20
    clean = fit_scaling(s.timestamps, s.values, s.step_s)
    wild = fit_scaling(s.timestamps, values, s.step_s)
    usual = clean.daily.at(s.timestamps, 300) * clean.spread
    other = wild.daily.at(s.timestamps, 300) * wild.spread
    assert np.abs(other - usual).max() < 0.15 * np.ptp(usual)


@pytest.mark.parametrize("values", [np.zeros((600, 1)), np.full((600, 1), 7.5), np.full((600, 1), 1e12)])
def test_spread_of_a_flat_metric_is_positive_and_finite(values: np.ndarray) -> None:
    scaling = fit_scaling(START_S + 300 * np.arange(600), values, 300)
    assert (scaling.spread > 0).all() and np.isfinite(scaling.spread).all()


def test_spread_of_a_metric_that_hardly_moves_follows_its_moves() -> None:
    values = np.zeros((1000, 1))
    values[::50] = 90.0
    assert fit_scaling(START_S + 300 * np.arange(1000), values, 300).spread[0] == pytest.approx(30.0)


def test_quantiles_leave_missing_points_out() -> None:
    x = np.arange(101, dtype=float)[:, None] * [1.0, 2.0]
    x = np.concatenate([x, np.full((50, 2), np.nan)])
    low, high = sorted_quantiles(x, (0.05, 0.95))
    np.testing.assert_allclose(low, [5, 10])
    np.testing.assert_allclose(high, [95, 190])
    assert np.isnan(sorted_quantiles(np.full((3, 1), np.nan), (0.5,))[0][0])


@pytest.mark.parametrize("start_day", range(7))
def test_two_weeks_are_two_whole_ones_whatever_day_they_begin_on(start_day: int) -> None:
    t = START_S + start_day * 86_400 + 300 * np.arange(14 * 288)
    weekend = ((t // 86_400 + 4) % 7 >= 5).astype(float)
    values = (100 - 60 * weekend + np.random.default_rng(1).standard_normal(len(t)))[:, None]
    scaling = fit_scaling(t, values, 300)
    g = scaling.deviations(t, values, 300) * scaling.spread
    assert np.std(g) < 5 < np.std(values)


def test_deviations_from_an_unseen_rhythm_are_as_large_as_in_time_to_come() -> None:
    rng = np.random.default_rng(2)
    t = START_S + 3600 * np.arange(28 * 24)
    wave = 10 * np.sin(2 * np.pi * t / 86_400) * (1 + 0.5 * np.sin(2 * np.pi * t / (7 * 86_400)))
    values = (wave + rng.standard_normal(len(t)))[:, None]
    scaling = fit_scaling(t[:336], values[:336], 3600)
    seen, unseen = (scaling.deviations(t[:336], values[:336], 3600, part) for part in (False, True))
    to_come = scaling.deviations(t[336:], values[336:], 3600)
    assert np.std(seen) < 0.9 * np.std(to_come)
    assert np.std(unseen) == pytest.approx(np.std(to_come), rel=0.25)
