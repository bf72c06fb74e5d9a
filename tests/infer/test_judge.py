"""The judge: flag, score and band agree on every point, and each rule of the contract does what it says."""

from __future__ import annotations

import json

import numpy as np
import pytest

from outliers.infer import baseline
from outliers.infer.judge import judge
from outliers.infer.scores import Scores
from tests.infer.traffic import odd_series, series, traffic

LONG = 200  # points, enough for the second witness to be asked


def scores_of(s, own=None, expected=100.0, half=10.0) -> Scores:
    """Scores of one metric with the given s; own = s unless given."""
    s = np.asarray(s, np.float32)[:, None]
    own = s if own is None else np.asarray(own, np.float32)[:, None]
    middle = np.full_like(s, expected)
    return Scores(middle, middle - half, middle + half, s, own)


def quiet(points: int = LONG) -> np.ndarray:
    """Values that the second witness finds nothing in."""
    return 100.0 + np.random.default_rng(0).normal(size=points)


@pytest.mark.parametrize("mode", ["whole", "causal"])
@pytest.mark.parametrize("metric", ["m0", "any"])
def test_flag_band_and_score_agree_on_every_point_as_written(mode, metric):
    rng = np.random.default_rng(6)
    flagged = 0
    for _ in range(200):
        values = odd_series(rng)
        one = series(values)
        scores, _ = baseline.score(one, mode=mode)
        empty = values[:, 0] == 0
        verdict = judge(one, scores, metric, mode=mode, empty=empty, counting=("m0",), nonnegative=True)
        x = values[np.arange(len(values)), verdict.metric]
        lower, upper, score, forecast = (
            np.array(json.loads(json.dumps([None if np.isnan(v) else v for v in part.tolist()])), dtype=float)
            for part in (verdict.lower, verdict.upper, verdict.score, verdict.forecast)
        )
        outside = (x < lower) | (x > upper)
        assert (verdict.flag == (score >= 1)).all()
        assert (verdict.flag == (outside | verdict.carried)).all()
        assert not (outside & verdict.carried).any()
        assert (np.isnan(score) == np.isnan(x)).all() and not (score < 0).any()
        assert not (forecast < lower).any() and not (forecast > upper).any() and not (lower < 0).any()
        assert not np.isinf(np.concatenate([lower, upper, score, forecast])).any()
        flagged += int(verdict.flag.sum())
    assert flagged > 100


def test_point_without_second_witness_is_not_flagged_and_its_band_holds_it():
    values = quiet()
    values[50] = 100.5
    s = np.full(LONG, 0.3)
    s[50] = 1.5
    scores = scores_of(s, half=0.1)
    verdict = judge(series(values), scores, "m0")
    assert not verdict.flag.any()
    assert verdict.score[50] == pytest.approx(1.5 / 2.5)
    assert verdict.lower[50] <= values[50] <= verdict.upper[50]
    assert judge(series(values), scores, "m0", witness=False).flag[50]


@pytest.mark.parametrize(("s", "own", "flagged"), [(2.0, 2.0, True), (1.99, 1.99, False), (2.5, 0.7, False)])
def test_twice_the_line_needs_no_witness_but_the_points_own_part(s, own, flagged):
    scores = np.full(LONG, 0.3)
    owns = scores.copy()
    scores[50], owns[50] = s, own
    assert judge(series(quiet()), scores_of(scores, owns), "m0").flag[50] == flagged


@pytest.mark.parametrize(("points", "flagged"), [(119, True), (120, False)])
def test_few_points_need_no_witness(points, flagged):
    s = np.full(points, 0.3)
    s[50] = 1.2
    assert judge(series(quiet(points)), scores_of(s), "m0").flag[50] == flagged


def test_second_witness_confirms_within_three_points():
    values = quiet()
    values[153] = 160.0
    s = np.full(LONG, 0.3)
    s[150] = 1.2
    assert judge(series(values), scores_of(s), "m0").flag[150]
    assert not judge(series(values), scores_of(s), "m0", mode="causal").flag.any()  # it had not happened yet
    s[150], s[45] = 0.3, 1.2  # at 1 minute the witness itself smooths over 9 points
    assert not judge(series(values), scores_of(s), "m0").flag[45]


def test_empty_bucket_needs_no_witness_where_the_metric_counts():
    values = quiet()
    empty = np.zeros(LONG, bool)
    empty[50] = True
    s = np.full(LONG, 0.3)
    s[50] = 1.2
    one = series(values, metrics=("bytes",))
    assert judge(one, scores_of(s), "bytes", empty=empty, counting={"bytes"}).flag[50]
    assert not judge(one, scores_of(s), "bytes", empty=empty, counting={"pkts"}).flag[50]


def test_confirmed_run_goes_on_down_to_four_fifths_both_ways_and_causally_forward_only():
    s = np.full(LONG, 0.3)
    s[48:55] = [0.79, 0.8, 0.9, 3.0, 0.85, 0.8, 0.79]
    verdict = judge(series(quiet()), scores_of(s), "m0")
    assert np.flatnonzero(verdict.flag).tolist() == [49, 50, 51, 52, 53]
    assert verdict.score[49] == 1.0 and verdict.score[51] == 3.0
    assert verdict.carried[[49, 50, 52, 53]].all()
    causal = judge(series(quiet()), scores_of(s), "m0", mode="causal")
    assert np.flatnonzero(causal.flag).tolist() == [51, 52, 53]


def test_missing_point_has_a_forecast_no_score_and_ends_a_run():
    values = quiet()
    values[52] = np.nan
    s = np.full(LONG, 0.3)
    s[50:55] = 3.0
    s[53:55] = 0.9
    verdict = judge(series(values), scores_of(s), "m0")
    assert np.isnan(verdict.score[52]) and verdict.forecast[52] == 100 and verdict.direction[52] == 0
    assert np.flatnonzero(verdict.flag).tolist() == [50, 51]


def test_any_takes_the_metric_that_is_furthest_out_and_lists_the_others():
    values = np.column_stack([quiet(), quiet() * 2, quiet() * 3])
    s = np.full((LONG, 3), 0.2, np.float32)
    s[50] = [1.5, 4.0, 0.9]
    middle = np.array([[100.0, 200.0, 300.0]], np.float32).repeat(LONG, axis=0)
    scores = Scores(middle, middle - 1, middle + 1, s, s)
    verdict = judge(series(values, metrics=("a", "b", "c")), scores, "any")
    assert verdict.flag[50] and verdict.metric[50] == 1 and verdict.score[50] == 2.0, "half of what b alone has"
    assert verdict.deviating[50] == ("b", "a") and verdict.deviating[49] == ()
    assert verdict.forecast[50] == 200.0


def test_any_needs_a_second_metric_or_one_that_is_twice_as_far_out():
    values = np.column_stack([quiet(), quiet() * 2, quiet() * 3])
    s = np.full((LONG, 3), 0.2, np.float32)
    s[50], s[100], s[150] = [1.8, 0.4, 0.2], [1.2, 1.1, 0.2], [2.4, 0.2, 0.2]
    middle = np.array([[100.0, 200.0, 300.0]], np.float32).repeat(LONG, axis=0)
    scores = Scores(middle, middle - 1, middle + 1, s, s)
    three = series(values, metrics=("a", "b", "c"))
    verdict = judge(three, scores, "any", witness=False)
    assert np.flatnonzero(verdict.flag & (s.max(1) > 1)).tolist() == [100, 150]
    assert verdict.score[150] == pytest.approx(1.2) and verdict.score[50] < 1
    assert judge(three, scores, "a", witness=False).flag[50], "who asks about one metric is told of it"


@pytest.mark.parametrize(("step_s", "flagged"), [(60, [99, 100, 101, 102, 103]), (3600, [100, 101, 102])])
def test_run_begins_and_ends_with_a_point_outside_its_band(step_s: int, flagged: list[int]):
    """A scale of several points is over the line before and after what it saw: at coarse steps for days."""
    values = quiet()
    values[100:103] = [200.0, 104.0, 200.0]
    s = np.full(LONG, 0.2)
    s[96:107] = 3.0
    judged = judge(series(values, step_s=step_s), scores_of(s), "m0")
    assert np.flatnonzero(judged.flag).tolist() == flagged
    assert np.flatnonzero(judged.carried).tolist() == [i for i in flagged if i not in (100, 102)]


def test_run_keeps_what_confirmed_it_and_silence_that_is_an_exception():
    """Where the points outside their band confirm nothing, the run stays whole."""
    values = quiet()
    values[100:110] = 500.0
    s, own = np.full(LONG, 0.2), np.full(LONG, 0.2)
    s[100:108], s[108:110], own[100:110] = 3.0, 0.9, 0.8
    scores = scores_of(s, own)
    scores.upper[100:108] = 1e6
    assert np.flatnonzero(judge(series(values, step_s=3600), scores, "m0").flag).tolist() == [*range(100, 110)]

    quiet_hour = quiet()
    quiet_hour[100:160] = 0.0
    empty = quiet_hour == 0
    expected = np.where(np.arange(LONG) < 120, 100.0, np.where(empty, 0.0, 100.0))
    middle = expected[:, None].astype(np.float32)
    low = np.full((LONG, 1), 0.3, np.float32)
    verdict = judge(
        series(quiet_hour), Scores(middle, middle - 10, middle + 10, low, low), "m0",
        empty=empty, counting=("m0",), rarely_empty=True, nonnegative=True,
    )  # fmt: skip
    assert verdict.flag[100:160].all() and verdict.flag.sum() <= 62


@pytest.mark.parametrize("metrics", [1, 3])
def test_flags_of_what_is_asked_do_not_depend_on_where_the_asking_begins(metrics: int):
    """A query that begins inside an attack, or just after one, is judged as if it had begun before."""
    for seed in range(6):
        values = traffic(1500, seed=seed)
        values[1225:1257] *= 4
        one = series(np.column_stack([values * (i + 1) for i in range(metrics)]))
        scores, _ = baseline.score(one)
        full = judge(one, scores, "m0").flag
        for first in (1200, 1230, 1245, 1256, 1260, 1300):
            part = judge(one, scores, "m0", judged=np.arange(1500) >= first).flag
            assert (part[first:] == full[first:]).all(), first


def test_live_flags_are_those_of_the_query_that_ends_there():
    for seed in range(4):
        values = traffic(240, seed=seed)
        values[[40, 52, 90, 130, 200]] *= [1.4, 1.3, 1.5, 1.4, 1.6]
        one = series(values)
        full = judge(one, baseline.score(one, mode="causal")[0], "m0", mode="causal").flag
        for stop in range(30, 241, 7):
            short = series(values[:stop])
            flag = judge(short, baseline.score(short, mode="causal")[0], "m0", mode="causal").flag
            assert (flag == full[:stop]).all(), stop


def test_band_is_never_below_zero_for_a_metric_that_cannot_be():
    s = np.full(LONG, 0.3)
    scores = scores_of(s, expected=2.0)
    values = np.abs(quiet() - 100)
    assert (judge(series(values), scores, "m0", nonnegative={"m0"}).lower == 0).all()
    assert (judge(series(values), scores, "m0").lower < 0).all()


def test_unknown_metric_is_refused():
    with pytest.raises(ValueError, match="not in tuple"):
        judge(series(quiet()), scores_of(np.zeros(LONG)), "bytes")


def test_lead_in_that_is_not_judged_does_not_change_what_is():
    values = traffic(1500)
    values[1470:1475] *= 3
    values[300] *= 3
    one = series(values)
    scores, _ = baseline.score(one)
    asked = np.arange(1500) >= 1440
    part, full = judge(one, scores, "m0", judged=asked), judge(one, scores, "m0")
    assert (part.flag[asked] == full.flag[asked]).all() and part.flag[1470:1475].all()


@pytest.mark.parametrize("mode", ["whole", "causal"])
def test_run_ends_where_its_cause_ends_although_long_scales_stay_over_the_line(mode):
    values = quiet()
    values[80:100] = 500.0
    s, own = np.full(LONG, 1.2), np.full(LONG, 0.1)
    own[80:90] = own[95:100] = 2.0  # five points in between that do not stand out themselves
    s[80:100] = 3.0
    flag = judge(series(values[:, None]), scores_of(s, own), "m0", mode=mode).flag
    expected = np.zeros(LONG, bool)
    expected[80:100] = True
    if mode == "causal":
        expected[90:95] = False  # nobody knows yet that it goes on
    assert (flag == expected).all()


@pytest.mark.parametrize("metric", ["bytes", "any"])
def test_empty_bucket_of_a_sensor_that_is_rarely_silent_is_over_the_line(metric):
    values = quiet()
    values[80:100] = 0.0
    empty = values == 0
    one = series(values[:, None], metrics=("bytes",))
    scores = scores_of(np.full(LONG, 0.4), expected=100.0, half=150.0)  # noisy: zero is inside the band
    verdict = judge(one, scores, metric, empty=empty, counting=("bytes",), nonnegative=True, rarely_empty=True)
    assert (verdict.flag == empty).all()
    assert (verdict.direction[empty] == -1).all() and not verdict.carried.any()
    usual = judge(one, scores, metric, empty=empty, counting=("bytes",), nonnegative=True)
    assert not usual.flag.any()


def test_value_as_low_as_it_can_be_is_down_even_where_nothing_is_expected():
    one = series(np.r_[np.full(100, 10.0), np.zeros(40), np.full(100, 10.0)])
    silent = one.values[:, 0] == 0
    nothing = np.zeros((240, 1), np.float32)
    over = np.where(silent, 3.0, 0.1).astype(np.float32)[:, None]
    scores = Scores(expected=nothing, lower=nothing, upper=nothing + 1, score=over, own=over)
    verdict = judge(one, scores, "m0", empty=silent, counting=("m0",), nonnegative=True)
    assert verdict.flag[silent].all() and (verdict.direction[silent] == -1).all()
    assert (judge(one, scores, "m0").direction[~silent] == 1).all()
