from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")

from export.onnx_file import export
from outliers.infer.model import Model
from outliers.series import Series
from outliers.train.build import build
from tests.train.models import QUICK, meta_of
from tests.train.sensors import sensor, with_values

pytestmark = pytest.mark.trainer


def pasts() -> dict[str, Series]:
    """Three granularities, of which the newest quarter of one has nothing to do with what went before."""
    found = {text: sensor(text, days, metrics=2, seed=3) for text, days in (("PT5M", 14), ("PT15M", 14), ("PT1H", 28))}
    values = found["PT1H"].values.copy()
    newest = values[3 * len(values) // 4 :]
    newest *= np.where(np.random.default_rng(5).random(len(newest)) < 0.5, 0.01, 50.0)[:, None]
    return {**found, "PT1H": with_values(found["PT1H"], values)}


def test_granularity_that_fails_alone_is_left_out_unless_it_is_served() -> None:
    series = pasts()
    built = build(series, QUICK)
    assert built.gate.passed and list(built.gate.refused) == ["PT1H"]
    assert list(built.fitted.granularities) == ["PT5M", "PT15M"] == list(built.lines)
    assert built.fitted.left_out == built.gate.refused and built.gate.refused["PT1H"]

    healthy = build({"PT1H": sensor("PT1H", 28, metrics=2, seed=3)}, QUICK).fitted
    served = Model.load(export(healthy, meta_of(healthy)))
    refused = build(series, QUICK, serving=served)
    assert not refused.gate.passed and refused.gate.reasons[0].startswith("PT1H: ")


def test_model_of_which_half_fails_is_refused() -> None:
    series = {text: s for text, s in pasts().items() if text != "PT5M"}
    assert not build(series, QUICK).gate.passed
