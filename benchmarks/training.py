"""A model for the benchmark, built, exported and loaded as the training job does it; needs torch."""

from __future__ import annotations

from typing import Optional

import torch

from export.onnx_file import export
from outliers.infer.metadata import ModelMeta
from outliers.infer.model import Model
from outliers.series import Series
from outliers.train.build import build
from outliers.train.fit import FitSettings


def fitted_model(series: Series, epochs: Optional[int] = None) -> Model:
    """Fit on all of `series`, its lines calibrated on the newest quarter; the gate's opinion is not asked."""
    torch.set_num_threads(1)
    settings = FitSettings() if epochs is None else FitSettings(epochs=epochs)
    built = build({series.granularity: series}, settings)
    fitted = built.fitted
    meta = ModelMeta(
        name="benchmark", version="0", data_source="file", filter=None,
        metrics=fitted.metrics, granularities=fitted.granularities, lines=built.lines, points=fitted.points,
    )  # fmt: skip
    return Model.load(export(fitted, meta))
