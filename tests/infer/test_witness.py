"""The second witness: it sees what stands out of the query, and causally only what came before."""

from __future__ import annotations

import numpy as np
import pytest

from outliers.infer import witness
from tests.infer.traffic import series, traffic


@pytest.mark.parametrize("mode", ["whole", "causal"])
@pytest.mark.parametrize("step_s", [60, 300, 3600])
def test_witness_agrees_on_a_spike_and_not_on_noise(step_s, mode):
    values = traffic(600, step_s)
    values[300] *= 4
    one = series(values, step_s)
    agrees = witness.agreement(witness.score(values, one.timestamps, step_s, mode), mode)
    assert agrees[300]
    assert agrees[:250].mean() < 0.1


@pytest.mark.parametrize("values", [np.zeros(0), np.full(50, 3.0), np.full(50, np.nan), np.array([1.0, np.nan, 9.0])])
def test_witness_of_nothing_to_see_is_zero(values):
    one = series(values)
    assert (witness.score(values, one.timestamps, 60) == 0).all()


def test_missing_points_are_not_seen_and_do_not_spread():
    values = traffic(600)
    values[100:160] = np.nan
    score = witness.score(values, series(values).timestamps, 60)
    assert np.isfinite(score).all() and (score[100:160] == 0).all()
    assert (score[160:200] < witness.AGREES).all()


def test_causal_witness_is_that_of_the_series_that_ends_there():
    rng = np.random.default_rng(5)
    for step_s, points in ((60, 700), (300, 1500), (3600, 400)):
        values = traffic(points, step_s)
        values[rng.random(points) < 0.03] = np.nan
        one = series(values, step_s)
        whole = witness.score(values, one.timestamps, step_s, "causal")
        for stop in rng.integers(1, points, 6):
            part = witness.score(values[:stop], one.timestamps[:stop], step_s, "causal")
            np.testing.assert_allclose(part, whole[:stop], rtol=1e-4, atol=1e-4)


def test_agreement_reaches_three_points_and_in_causal_mode_only_back():
    scores = np.zeros(20, np.float32)
    scores[10] = witness.AGREES
    assert np.flatnonzero(witness.agreement(scores)).tolist() == list(range(7, 14))
    assert np.flatnonzero(witness.agreement(scores, "causal")).tolist() == list(range(10, 14))
