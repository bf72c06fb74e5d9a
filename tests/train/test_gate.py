from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

from export.onnx_file import export
from export.parity import torch_scores
from outliers.infer.metadata import MODES, Line
from outliers.infer.model import Model
from outliers.train import calibrate
from outliers.train.fit import Fitted, fit
from outliers.train.gate import GateResult, Trial, gate
from tests.train.models import QUICK, fitted, meta_of
from tests.train.sensors import sensor, with_values

pytestmark = pytest.mark.trainer
LATER_S = 1_700_006_400 + 14 * 86_400


def judged(model: Fitted, serving: Model | None = None) -> GateResult:
    s = sensor("PT5M", 5, seed=12, start_s=LATER_S)
    trial = Trial(s, 288)
    held_by = {
        ("PT5M", mode): calibrate.held(trial.series, torch_scores(model, trial.series, 1.0, mode), 288, mode)
        for mode in MODES
    }
    lines = calibrate.lines({key: h.part(0, 0.5) for key, h in held_by.items()}, model.granularities)
    return gate(model, lines, {"PT5M": trial}, held_by, serving)


def replace_parameters(model: Fitted, **changes: Any) -> Fitted:
    """The same model, broken."""
    return dataclasses.replace(model, parameters=dataclasses.replace(model.parameters, **changes))


def served() -> Model:
    return Model.load(export(fitted(1), meta_of(fitted(1))))


def test_good_model_passes_with_and_without_one_that_serves() -> None:
    assert judged(fitted(1)).passed
    assert judged(fitted(1), served()).passed


def test_model_with_numbers_that_are_not_finite_is_refused() -> None:
    tau = fitted(1).parameters.tau.copy()
    tau[0, 0, 0, 0, 0] = np.nan
    result = judged(replace_parameters(fitted(1), tau=tau))
    assert result.reasons == ("the model holds numbers that are not finite",)


def test_model_that_did_not_converge_is_refused() -> None:
    training = dataclasses.replace(fitted(1).training, validation_loss=9.0, first_loss=1.0)
    result = judged(dataclasses.replace(fitted(1), training=training))
    assert "did not converge" in result.reasons[0]


def test_model_of_the_wrong_scale_is_refused() -> None:
    p = fitted(1).parameters
    result = judged(replace_parameters(fitted(1), center=p.center * 1000, spread=p.spread * 1000))
    assert not result.passed and "PT5M" in result.reasons[0]


def test_model_whose_network_is_broken_is_refused_because_its_expected_values_are_off() -> None:
    p = fitted(1).parameters
    broken = {
        name: np.random.default_rng(0).standard_normal(w.shape).astype(np.float32) for name, w in p.weights.items()
    }
    result = judged(replace_parameters(fitted(1), weights=broken))
    assert "times as far off as those of" in result.reasons[0]


def test_model_that_alarms_again_and_again_is_refused() -> None:
    trial = Trial(sensor("PT5M", 5, seed=12, start_s=LATER_S), 288)
    distance = np.full(len(trial.series), 0.3)
    distance[30::36] = 3.0  # every three hours
    often = calibrate.Held(distance, distance, np.ones(len(distance), bool), 288, 300, "whole")
    lines = {"PT5M": {mode: Line(1.25) for mode in MODES}}
    result = gate(fitted(1), lines, {"PT5M": trial}, {("PT5M", mode): often for mode in MODES})
    assert result.reasons == ("PT5M: 16 alarms in 2.0 days of held-out time, where 7 are the most",)


def test_model_to_which_everything_is_an_anomaly_is_refused() -> None:
    p = fitted(1).parameters
    result = judged(replace_parameters(fitted(1), limit=p.limit / 1000))
    assert any("of the points of held-out time are anomalies" in reason for reason in result.reasons)


def test_model_of_a_frozen_past_is_refused() -> None:
    s = sensor("PT5M", 14)
    frozen = fit({"PT5M": with_values(s, np.full_like(s.values, np.median(s.values)))}, QUICK)
    assert any("of short queries are anomalies" in reason for reason in judged(frozen).reasons)


def test_model_that_finds_nothing_is_refused_where_one_serves_that_does() -> None:
    p = fitted(1).parameters
    blind = replace_parameters(fitted(1), limit=p.limit * 1e4)
    assert judged(blind).passed  # nothing to compare with
    assert any("injected excursions" in reason for reason in judged(blind, served()).reasons)


def test_served_model_of_other_metrics_is_no_measure() -> None:
    assert judged(fitted(1), Model.load(export(fitted(3), meta_of(fitted(3))))).passed
