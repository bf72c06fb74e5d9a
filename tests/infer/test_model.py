from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")

from outliers.errors import ModelInvalid, ModelUnsuited
from outliers.infer.model import Model
from outliers.series import Series
from tests.train.models import exported, loaded
from tests.train.sensors import part, sensor, with_values

pytestmark = pytest.mark.trainer
LATER_S = 1_700_006_400 + 14 * 86_400


@pytest.mark.parametrize("metrics", [1, 3])
@pytest.mark.parametrize("mode", ["whole", "causal"])
@pytest.mark.parametrize("points", [1, 2, 12, 31, 32, 33, 60, 64, 1000])
def test_score_of_any_length_is_finite_and_of_the_series_shape(points: int, mode: str, metrics: int) -> None:
    series = part(sensor(metrics=metrics, seed=3, start_s=LATER_S), 0, points)
    scores = loaded(metrics).score(series, mode=mode)
    for name, array in scores._asdict().items():
        assert array.shape == series.values.shape and array.dtype == np.float32, name
    assert np.isfinite(scores.expected).all() and np.isfinite(scores.score).all() and np.isfinite(scores.own).all()
    assert (scores.lower <= scores.expected).all() and (scores.expected <= scores.upper).all()


def test_score_of_missing_points_is_nan_and_expected_is_given() -> None:
    series = part(sensor(seed=3, start_s=LATER_S), 0, 300)
    values = series.values.copy()
    values[100:140] = np.nan
    scores = loaded().score(with_values(series, values))
    assert np.isnan(scores.score[100:140]).all() and np.isfinite(np.delete(scores.score, range(100, 140))).all()
    assert np.isfinite(scores.expected).all()
    away = np.abs(scores.expected[100:140] - series.values[100:140]) / series.values[100:140]
    assert np.median(away) < 0.15


def test_score_of_a_series_all_missing_is_nan() -> None:
    series = part(sensor(seed=3, start_s=LATER_S), 0, 60)
    scores = loaded().score(with_values(series, np.full_like(series.values, np.nan)))
    assert np.isnan(scores.score).all() and np.isfinite(scores.expected).all()


@pytest.mark.parametrize("factor", [10.0, 3.0, 0.0])
@pytest.mark.parametrize("metrics", [1, 3])
def test_score_of_an_hour_alone_that_is_wholly_unusual_is_over_the_line(factor: float, metrics: int) -> None:
    series = sensor("PT5M", 1, metrics, seed=5, start_s=LATER_S)
    hour = part(series, 60, 72)
    usual = loaded(metrics).score(hour)
    unusual = loaded(metrics).score(with_values(hour, hour.values * factor))
    assert (usual.score < 1).all()
    assert (unusual.score >= 1).mean() > 0.9


def test_score_of_clean_days_is_hardly_ever_over_the_line() -> None:
    scores = loaded(3).score(sensor(metrics=3, seed=8, days=7, start_s=LATER_S))
    assert (scores.score >= 1).any(axis=1).mean() < 0.01


@pytest.mark.parametrize("mode", ["whole", "causal"])
def test_band_agrees_with_the_score_at_every_point(mode: str) -> None:
    series = sensor(seed=9, days=3, start_s=LATER_S)
    values = series.values.copy()
    for place, factor in ((100, 1.3), (200, 0.7), (300, 1.6), (500, 4.0), (501, 4.0), (600, 0.0)):
        values[place] *= factor
    scores = loaded().score(with_values(series, values), k=1.25, mode=mode)
    outside = (values < scores.lower) | (values > scores.upper)
    over = scores.score >= 1
    assert over[[300, 500, 501, 600]].all()
    assert (over | ~outside).all()  # what is strictly outside its band is over the line
    assert outside[[300, 500, 501, 600]].all()


def test_band_holds_a_value_exactly_to_where_its_score_meets_the_line() -> None:
    series = sensor(seed=9, days=3, start_s=LATER_S)
    scores = loaded().score(series, k=1.25)
    step = loaded().score(series, k=1.25 * float(scores.score.max()))  # the line through the largest score
    at = int(np.argmax(scores.score))
    value = series.values[at, 0]
    edge = step.upper[at, 0] if value > step.expected[at, 0] else step.lower[at, 0]
    assert edge == pytest.approx(value, rel=1e-3)


def test_causal_score_does_not_know_what_comes_after() -> None:
    series = sensor(metrics=3, seed=11, days=2, start_s=LATER_S)
    all_of_it = loaded(3).score(series, mode="causal")
    until = loaded(3).score(part(series, 0, 400), mode="causal")
    changed = series.values.copy()
    changed[400:] *= 50
    # the noise is believed by the length of the query and its size: the same for both
    other = loaded(3).score(with_values(series, changed), mode="causal")
    np.testing.assert_allclose(other.expected[:400], all_of_it.expected[:400], rtol=1e-5)
    np.testing.assert_allclose(until.expected, all_of_it.expected[:400], rtol=1e-5)


def test_granularities_of_one_file_are_not_mixed() -> None:
    fine, coarse = sensor("PT5M", 3, seed=2, start_s=LATER_S), sensor("PT1H", 3, seed=2, start_s=LATER_S)
    ten_times = with_values(coarse, coarse.values * 12)
    for series in (fine, coarse):
        away = np.abs(loaded().score(series).expected - series.values) / series.values
        assert np.median(away) < 0.1
    assert (loaded().score(ten_times).score > 1).mean() > 0.9


def test_score_picks_the_models_metrics_out_of_more() -> None:
    series = part(sensor(metrics=3, seed=4, start_s=LATER_S), 0, 200)
    shuffled = Series(
        series.timestamps, np.concatenate([np.zeros((200, 1)), series.values[:, ::-1]], 1),
        ("other", *series.metrics[::-1]), series.granularity, series.step_s,
    )  # fmt: skip
    np.testing.assert_array_equal(loaded(3).score(shuffled).score, loaded(3).score(series).score)


def test_model_that_was_not_trained_on_a_granularity_says_so() -> None:
    with pytest.raises(ModelUnsuited, match=r"PT1M.*PT5M, PT1H"):
        loaded().score(sensor("PT1M", 1))
    with pytest.raises(ModelUnsuited, match="PT1M"):
        loaded().score(sensor("PT1M", 1), k=2.0)


def test_model_whose_metrics_are_missing_names_them() -> None:
    with pytest.raises(ModelUnsuited, match="pkts, flows"):
        loaded(3).score(sensor(metrics=1))


def test_k_moves_the_line_and_nothing_else() -> None:
    series = part(sensor(seed=6, start_s=LATER_S), 0, 300)
    one, two = loaded().score(series, k=1.0), loaded().score(series, k=2.0)
    np.testing.assert_allclose(one.score, 2 * two.score, rtol=1e-5)
    np.testing.assert_array_equal(one.expected, two.expected)
    assert (two.upper >= one.upper).all() and (two.lower <= one.lower).all()


def test_alarm_budget_is_looked_up_in_the_models_own_table() -> None:
    assert loaded().threshold("PT5M", "causal", 0.25) == 1.7
    assert loaded().threshold("PT5M", "causal", 0) == 1.6
    series = part(sensor(seed=6, start_s=LATER_S), 0, 100)
    by_budget = loaded().score(series, mode="causal", alarms_per_day=0.25)
    np.testing.assert_array_equal(by_budget.score, loaded().score(series, k=1.7, mode="causal").score)


@pytest.mark.parametrize("damage", ["empty", "cut", "text", "bytes"])
def test_file_that_is_damaged_is_refused(damage: str) -> None:
    data = exported()
    broken = {
        "empty": b"", "cut": data[: len(data) // 2], "text": b"not a model",
        "bytes": data[:2000] + bytes(200) + data[2200:],
    }  # fmt: skip
    with pytest.raises(ModelInvalid):
        Model.load(broken[damage])


def test_onnx_file_of_somebody_else_is_refused() -> None:
    import onnx
    from onnx import TensorProto, helper

    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["T"]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Abs", ["x"], ["y"])], "g", [x], [y])
    foreign = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    with pytest.raises(ModelInvalid, match="no model metadata"):
        Model.load(foreign.SerializeToString())
    onnx.helper.set_model_props(foreign, onnx_props(exported()))
    with pytest.raises(ModelInvalid, match="lacks"):
        Model.load(foreign.SerializeToString())


def onnx_props(data: bytes) -> dict[str, str]:
    import onnx

    return {p.key: p.value for p in onnx.load_from_string(data).metadata_props}
