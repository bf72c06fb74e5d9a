"""A fitted model as the bytes of one ONNX file; it must not know how it was fitted or where the file goes."""

from __future__ import annotations

from typing import Protocol

import onnx

from export.arithmetic import detect
from export.onnx_ops import OnnxOps
from export.parameters import Parameters
from outliers.infer.metadata import ModelMeta
from outliers.infer.scores import Scores


class HasParameters(Protocol):
    """What export needs of a fitted model."""

    @property
    def parameters(self) -> Parameters: ...


def export(fitted: HasParameters, meta: ModelMeta) -> bytes:
    """Write the graph and the metadata; milliseconds, since the graph is written directly."""
    p = fitted.parameters
    if len(meta.metrics) != p.metrics:
        raise ValueError(f"the metadata names {len(meta.metrics)} metrics and the model has {p.metrics}")
    op = OnnxOps()
    outputs = detect(
        op, p,
        timestamp=op.input("timestamp", "int", ["T"]),
        step=op.input("step", "int", []),
        values=op.input("values", "float", ["T", p.metrics]),
        k=op.input("k", "float", []),
        causal=op.input("causal", "int", []),
        first=op.input("first", "int", []),
    )  # fmt: skip
    model = op.model({name: outputs[name] for name in Scores._fields}, {name: ["A", p.metrics] for name in outputs})
    model.producer_name = "rb-aioutliers"
    onnx.helper.set_model_props(model, meta.to_props())
    return bytes(model.SerializeToString())
