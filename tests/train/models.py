"""Models fitted once for the tests of several rooms; it must not know what is tested on them."""

from __future__ import annotations

import functools

from export.onnx_file import export
from outliers.infer.metadata import Line, ModelMeta
from outliers.infer.model import Model
from outliers.train.fit import FitSettings, Fitted, fit
from tests.train.sensors import sensor

QUICK = FitSettings(epochs=20, max_steps=150)


@functools.cache
def fitted(metrics: int = 1) -> Fitted:
    """Two granularities of one sensor."""
    return fit({"PT5M": sensor("PT5M", 14, metrics, missing=0.01), "PT1H": sensor("PT1H", 28, metrics)}, QUICK)


def meta_of(model: Fitted, **changes: object) -> ModelMeta:
    lines = {name: {"whole": Line(1.25), "causal": Line(1.6, {0.25: 1.7})} for name in model.granularities}
    values = {
        "name": "sensor 1", "version": "v1", "data_source": "rb_flow", "filter": None, "metrics": model.metrics,
        "granularities": model.granularities, "lines": lines, "points": model.points,
    }  # fmt: skip
    return ModelMeta(**{**values, **changes})  # type: ignore[arg-type]


@functools.cache
def exported(metrics: int = 1) -> bytes:
    return export(fitted(metrics), meta_of(fitted(metrics)))


@functools.cache
def loaded(metrics: int = 1) -> Model:
    return Model.load(exported(metrics))
