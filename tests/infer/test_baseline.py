"""The detector without a model: any series gets a valid answer, and band, score and modes keep their meaning."""

from __future__ import annotations

import numpy as np
import pytest

from outliers.infer import baseline
from outliers.infer.judge import judge
from tests.infer.traffic import odd_series, series, traffic


@pytest.mark.parametrize("mode", ["whole", "causal"])
def test_score_of_odd_series_is_finite_where_there_is_a_value(mode):
    rng = np.random.default_rng(1)
    for _ in range(200):
        values = odd_series(rng)
        scores, reason = baseline.score(series(values), mode=mode)
        seen = np.isfinite(values)
        assert reason
        assert all(part.shape == values.shape and part.dtype == np.float32 for part in scores)
        assert (np.isfinite(scores.score) == seen).all()
        assert (scores.score[seen] >= 0).all()
        some = seen.any(axis=0)
        assert np.isfinite(scores.expected[:, some]).all()


@pytest.mark.parametrize("step_s", [60, 300, 3600, 28_800])
def test_score_of_a_spike_is_over_the_line_at_every_step(step_s):
    values = traffic(400, step_s, day=0.0)
    values[200] *= 3
    scores, _ = baseline.score(series(values, step_s))
    assert scores.score[200, 0] > 2 and scores.own[200, 0] > 2
    assert np.argmax(scores.score[:, 0]) in (199, 200, 201)
    assert values[200] > scores.upper[200, 0] > scores.expected[200, 0] > scores.lower[200, 0]


@pytest.mark.parametrize("length", [5, 60])
def test_outage_in_a_day_is_flagged_from_end_to_end(length):
    values = traffic(1440)
    values[700 : 700 + length] = 0
    one = series(values)
    scores, _ = baseline.score(one)
    flag = judge(one, scores, "m0", empty=values == 0, counting=("m0",)).flag
    assert flag[700 : 700 + length].all() and flag.sum() <= 2 * length + 10


def test_noise_reaches_the_line_seldom():
    over = [
        (baseline.score(series(traffic(1440, seed=seed)), mode=mode)[0].score >= 1).mean()
        for seed in range(5)
        for mode in ("whole", "causal")
    ]
    assert np.mean(over) < 0.005


def test_causal_scores_are_those_of_the_series_that_ends_there():
    rng = np.random.default_rng(2)
    for step_s, points in ((60, 700), (300, 1500), (3600, 600)):
        values = traffic(points, step_s)
        values[rng.random(points) < 0.02] *= 3
        values[rng.random(points) < 0.05] = np.nan
        whole, _ = baseline.score(series(values, step_s), mode="causal")
        for stop in rng.integers(1, points, 6):
            part, _ = baseline.score(series(values[:stop], step_s), mode="causal")
            for ours, theirs in zip(part, whole):
                np.testing.assert_allclose(ours, theirs[:stop], rtol=1e-4, atol=1e-4)


def test_band_is_where_the_score_reaches_the_line():
    """Moving a point alone to just inside its band keeps it under the line, with sizes and neighbours as they are."""
    values = traffic(1440)
    values[300] *= 2
    scores, _ = baseline.score(series(values))
    inside = (values >= scores.lower[:, 0]) & (values <= scores.upper[:, 0])
    under = scores.score[:, 0] < 1
    assert (inside[under]).all()  # what is under the line is never outside
    assert not inside[300]


def test_sensitivity_moves_the_line_and_k_replaces_it():
    values = series(traffic(1440))
    usual, _ = baseline.score(values)
    keen, _ = baseline.score(values, sensitivity=1.0)
    dull, _ = baseline.score(values, sensitivity=0.5)
    np.testing.assert_allclose(keen.score, usual.score / 0.95, rtol=1e-5)
    np.testing.assert_allclose(dull.score, usual.score * 0.5 / 0.95, rtol=1e-5)
    fixed, _ = baseline.score(values, k=2 * baseline.line(None, "whole"), sensitivity=0.1)
    np.testing.assert_allclose(fixed.score, usual.score / 2, rtol=1e-5)


def test_contamination_makes_what_is_unusual_stand_out_or_not():
    values = traffic(1440)
    values[::40] *= 2  # a spike every 40 points: 2.5 %
    few, _ = baseline.score(series(values), contamination=0.001)
    many, _ = baseline.score(series(values), contamination=0.03)
    assert np.median(few.score[::40]) < np.median(many.score[::40])


def test_daily_rhythm_is_not_an_anomaly_from_the_third_day_on():
    points = 7 * 288
    values = traffic(points, 300, day=0.0, noise=0.02)
    at_nine = np.arange(points) % 288 == 108
    values[at_nine] *= 1.6  # a job that runs every day at nine
    scores, reason = baseline.score(series(values, 300))
    assert (scores.score[at_nine] < 1).mean() > 0.8
    assert "daily" in reason


@pytest.mark.parametrize(
    ("points", "step_s", "said"),
    [
        (0, 60, "no value"),
        (3, 60, "too few"),
        (600, 60, "too short for a daily"),
        (2000, 300, "too short for a weekly"),
    ],
)
def test_reason_says_what_there_was_to_judge_by(points, step_s, said):
    assert said in baseline.score(series(traffic(points, step_s), step_s))[1]


def test_several_metrics_together_show_what_each_hides():
    rng = np.random.default_rng(3)
    values = 100 + rng.normal(size=(1440, 8))
    values[700:705] += 3.5
    together, _ = baseline.score(series(values))
    alone, _ = baseline.score(series(values[:, 0]))
    assert together.score[700:705, 0].mean() > alone.score[700:705, 0].mean()


def test_metric_that_alone_deviates_stands_out_of_its_companions():
    rng = np.random.default_rng(4)
    values = 100 + rng.normal(size=(1440, 8))
    values[700, 2] += 60
    scores, _ = baseline.score(series(values))
    assert scores.score[700, 2] > 1
    assert np.argmax(scores.score[700]) == 2


@pytest.mark.parametrize(
    ("step_s", "length", "factor"), [(60, 20, 6.0), (300, 3, 100.0), (3600, 2, 30.0), (60, 13, 0.0)]
)
@pytest.mark.parametrize("mode", ["whole", "causal"])
def test_excursion_flags_nothing_around_it(step_s: int, length: int, factor: float, mode: str):
    """What has left its level bends no expectation around it; live, if it is shorter than half the window."""
    most = length + 6 if mode == "whole" or length < 15 else 2 * length
    for seed in range(3):
        values = traffic(1440, step_s=step_s, seed=seed, day=0.0 if step_s == 3600 else 0.4)
        values[1000 : 1000 + length] *= factor
        one = series(values, step_s=step_s)
        flag = judge(one, baseline.score(one, mode=mode)[0], "m0", mode=mode).flag
        assert flag[1000 : 1000 + length].mean() > 0.6
        assert flag[900:1100].sum() <= most
