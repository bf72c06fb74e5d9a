from __future__ import annotations

import io

import numpy as np
import pytest

pytest.importorskip("torch")
import torch

from export.onnx_file import export
from export.parity import torch_scores
from outliers.errors import TooLittleData, TrainingError
from outliers.infer.judge import judge
from outliers.infer.model import Model
from outliers.series import Series
from outliers.train.build import build
from outliers.train.fit import FitSettings, fit, read_weights
from tests.train.models import QUICK, fitted, meta_of
from tests.train.sensors import part, sensor, with_values

pytestmark = pytest.mark.trainer
LATER_S = 1_700_006_400 + 14 * 86_400


def test_fit_of_too_little_data_says_how_much_there_is() -> None:
    with pytest.raises(TooLittleData, match="PT1H: 20 points where 64 are needed"):
        fit({"PT1H": part(sensor("PT1H", 7), 0, 20)}, QUICK)
    with pytest.raises(TooLittleData, match="no granularity"):
        fit({}, QUICK)


def test_fit_leaves_out_a_granularity_that_is_too_short_and_says_so() -> None:
    model = fit({"PT5M": sensor("PT5M", 3), "PT1H": part(sensor("PT1H", 3), 0, 30)}, QUICK)
    assert list(model.granularities) == ["PT5M"]
    assert model.left_out == {"PT1H": "30 points where 64 are needed"}


def test_fit_of_other_metrics_a_granularity_is_refused() -> None:
    with pytest.raises(TrainingError, match="same metrics"):
        fit({"PT5M": sensor("PT5M", 3, 1), "PT1H": sensor("PT1H", 7, 2)}, QUICK)


@pytest.mark.parametrize("kind", ["flat", "zero", "sparse", "gaps", "huge", "one metric missing"])
def test_fit_of_odd_data_gives_finite_scores(kind: str) -> None:
    from export.parity import torch_scores

    s = sensor("PT15M", 10, 2)
    values = s.values.copy()
    if kind == "flat":
        values[:] = 5.0
    elif kind == "zero":
        values[:] = 0.0
    elif kind == "sparse":
        values[:] = 0.0
        values[::40] = 7.0
    elif kind == "gaps":
        values[100:700] = np.nan
    elif kind == "huge":
        values *= 1e15
    else:
        values[:, 1] = np.nan
    series = with_values(s, values)
    model = fit({"PT15M": series}, QUICK)
    scores = torch_scores(model, series, 1.25, "whole")
    assert np.isfinite(scores.expected).all()
    assert np.isfinite(scores.score[np.isfinite(values)]).all()
    if kind in ("flat", "zero"):
        assert (scores.score < 1).all()
        jump = values.copy()
        jump[300:310] = 100.0
        over = torch_scores(model, with_values(s, jump), 1.25, "whole").score[300:310] >= 1
        assert over.all()


def test_weights_load_with_weights_only_and_continue_a_training() -> None:
    model = fitted(1)
    data = model.weights_bytes()
    assert torch.load(io.BytesIO(data), weights_only=True)["metrics"] == ["bytes"]
    state = read_weights(data, model.metrics, model.granularities)
    again = fit({"PT5M": sensor("PT5M", 14), "PT1H": sensor("PT1H", 28)}, FitSettings(max_steps=0), start_from=state)
    assert all(torch.equal(again.state[name], w) for name, w in model.state.items())
    assert read_weights(data, ("other",), model.granularities) is None
    assert read_weights(b"no weights", model.metrics, model.granularities) is None


def test_fit_is_the_same_twice() -> None:
    one, two = (fit({"PT1H": sensor("PT1H", 14)}, QUICK) for _ in range(2))
    for a, b in zip(one.state.values(), two.state.values()):
        assert torch.equal(a, b)
    np.testing.assert_array_equal(one.parameters.limit, two.parameters.limit)


@pytest.mark.parametrize("metrics", [1, 3])
def test_attack_in_the_training_data_is_still_seen_when_it_returns(metrics: int) -> None:
    from export.parity import torch_scores

    s = sensor("PT5M", 14, metrics)
    attacked = s.values.copy()
    attacked[2000:2072] *= 10  # six hours
    model = fit({"PT5M": with_values(s, attacked)}, QUICK)
    day = sensor("PT5M", 2, metrics, seed=9, start_s=LATER_S)
    values = day.values.copy()
    values[288:360] *= 10
    scores = torch_scores(model, with_values(day, values), 1.25, "whole").score
    assert (scores[288:360].max(axis=1) >= 1).mean() >= 0.95


@pytest.mark.parametrize("asked", ["bytes", "any"])
@pytest.mark.parametrize(("granularity", "days"), [("PT1M", 7), ("PT15M", 28), ("PT1H", 56)])
def test_one_bucket_of_an_attack_is_flagged_at_every_step(granularity: str, days: int, asked: str) -> None:
    """Also where the past holds some, an hour long each: at coarse steps they must not become what is usual."""
    s = sensor(granularity, days, metrics=11, seed=8)
    values = s.values.copy()
    hour = max(3600 // s.step_s, 1)
    for start in np.linspace(0.05, 0.95, 14):
        at = int(len(values) * start)
        values[at : at + hour] *= 3.5
    past = with_values(s, values)
    learned = fit({granularity: past}, QUICK)
    model = Model.load(export(learned, meta_of(learned)))
    later = sensor(granularity, 400 * s.step_s / 86_400, metrics=11, seed=9, start_s=int(s.timestamps[-1]) + s.step_s)
    for factor in (10.0, 0.0):
        attacked = later.values.copy()
        attacked[300] *= factor
        query = with_values(later, attacked)
        flag = judge(query, model.score(query), asked).flag
        assert flag[300] and flag.sum() <= 3, factor


def test_new_level_is_no_anomaly_after_a_day_and_a_retraining() -> None:
    from export.parity import torch_scores

    s = sensor("PT5M", 15)
    values = s.values.copy()
    values[-300:] *= 3  # a bit more than a day ago
    model = fit({"PT5M": with_values(s, values)}, QUICK)
    later = sensor("PT5M", 1, seed=4, start_s=1_700_006_400 + 15 * 86_400)
    with_lead = Series(
        np.concatenate([s.timestamps[-288:], later.timestamps]),
        np.concatenate([values[-288:], later.values * 3]), s.metrics, s.granularity, s.step_s,
    )  # fmt: skip
    scores = torch_scores(model, with_lead, 1.25, "whole").score[288:]
    assert (scores >= 1).mean() < 0.05


def test_build_gives_lines_for_every_granularity_and_mode() -> None:
    built = build({"PT5M": sensor("PT5M", 14), "PT1H": part(sensor("PT1H", 7), 0, 70)}, QUICK)
    assert built.gate.passed, built.gate.reasons
    assert set(built.lines) == {"PT5M", "PT1H"}
    assert built.lines["PT5M"]["whole"].budgets and not built.lines["PT1H"]["whole"].budgets
    assert built.fitted.points == {"PT5M": 4032, "PT1H": 70}


def test_build_of_little_data_is_fitted_without_held_out_time() -> None:
    built = build({"PT1H": part(sensor("PT1H", 7), 0, 70)}, QUICK)
    assert built.gate.passed
    assert built.lines["PT1H"]["causal"].default > built.lines["PT1H"]["whole"].default


@pytest.mark.parametrize("points", [64, 100, 150])
def test_calm_query_is_nowhere_further_out_than_one_of_the_usual_noise(points: int) -> None:
    """Its limits come nearer, and with them what stands in for the points beyond its ends."""
    usual, calm = (
        torch_scores(fitted(3), sensor("PT1H", points / 24, 3, noise, seed=3, start_s=LATER_S), 1.15, "whole").score
        for noise in (0.05, 0.03)
    )
    assert np.nanmedian(calm) < np.nanmedian(usual) and calm.max() < 1
