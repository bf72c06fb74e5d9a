"""A trained model, loaded and asked; the only module that knows onnxruntime, and it knows nothing of stores or HTTP."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Sequence
from typing import Optional
from weakref import WeakValueDictionary

import numpy as np
from numpy.typing import NDArray

# Since 1.29 onnxruntime writes a device id under $HOME and reports to its maker from the moment it is imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from outliers.errors import ModelInvalid, ModelUnsuited
from outliers.infer.metadata import MODES, ModelMeta
from outliers.infer.onnx_parts import Numbers, take_apart
from outliers.infer.scores import Scores
from outliers.series import Series

_OUTPUTS = list(Scores._fields)
_FOREIGN = (
    ort_errors.Fail, ort_errors.InvalidArgument, ort_errors.InvalidGraph, ort_errors.InvalidProtobuf,
    ort_errors.NoSuchFile, ort_errors.NotImplemented, ort_errors.RuntimeException, ort_errors.EPFail,
)  # fmt: skip


class Sessions:
    """Sessions by graph: models whose graphs are equal share one, and it goes with the last of them. Thread-safe."""

    def __init__(self) -> None:
        self._by_graph: WeakValueDictionary[bytes, onnxruntime.InferenceSession] = WeakValueDictionary()
        self._lock = threading.Lock()

    def of(self, graph: bytes) -> onnxruntime.InferenceSession:
        """Return the session of a graph, made where there is none."""
        digest = hashlib.sha256(graph).digest()
        with self._lock:
            session = self._by_graph.get(digest)
            if session is None:
                session = onnxruntime.InferenceSession(graph, _options(), providers=["CPUExecutionProvider"])
                self._by_graph[digest] = session
            return session


class Model:
    """One model file in memory. Thread-safe: `score` may be called by many threads at once."""

    def __init__(
        self,
        meta: ModelMeta,
        session: onnxruntime.InferenceSession,
        numbers: Numbers,
        leaves_out: bool,
    ) -> None:
        self.meta = meta
        self._session = session
        self._numbers = numbers
        self._leaves_out = leaves_out  # files of contract 1 answer every row

    @classmethod
    def load(cls, data: bytes, sessions: Optional[Sessions] = None) -> Model:
        """Open a model file's bytes; raises ModelInvalid when they are not one that this executor can run.

        sessions: shared between models, which then cost a fifteenth of the memory and load in a millisecond.
        """
        parts = take_apart(data)
        meta = ModelMeta.from_props(parts.props)
        try:
            session = (sessions or Sessions()).of(parts.graph)
        except _FOREIGN as error:
            raise ModelInvalid("the model file is damaged or is not an ONNX file this executor can run") from error
        names = {i.name for i in session.get_inputs()} | {o.name for o in session.get_outputs()}
        missing = {"timestamp", "step", "values", "k", "causal", *_OUTPUTS} - names
        if missing:
            raise ModelInvalid(f"the model file lacks {', '.join(sorted(missing))}")
        return cls(meta, session, parts.numbers, leaves_out="first" in names)

    def threshold(self, granularity: str, mode: str = "whole", alarms_per_day: Optional[float] = None) -> float:
        """The line at a granularity and mode, in the model's sigmas; ModelUnsuited if it was not trained on it."""
        if granularity not in self.meta.granularities:
            trained = ", ".join(self.meta.granularities)
            raise ModelUnsuited(f"the model was not trained on {granularity} (it knows {trained})")
        return self.meta.line(granularity, mode).k(alarms_per_day)

    def score(
        self,
        series: Series,
        k: Optional[float] = None,
        mode: str = "whole",
        alarms_per_day: Optional[float] = None,
        first: int = 0,
    ) -> Scores:
        """Score a series that carries at least the model's metrics; columns of the result follow `meta.metrics`.

        first: rows before it are context: taken into account, not answered (NaN), which is most of the work.
        k: where the line lies, in the model's sigmas; otherwise the model's own for `alarms_per_day`.
        Raises ModelUnsuited when the model cannot answer this series, with the reason.
        """
        if mode not in MODES:
            raise ValueError(f"mode is {mode!r}, not one of {MODES}")
        if k is None:
            k = self.threshold(series.granularity, mode, alarms_per_day)
        elif series.granularity not in self.meta.granularities:
            self.threshold(series.granularity, mode)
        missing = [m for m in self.meta.metrics if m not in series.metrics]
        if missing:
            raise ModelUnsuited(f"the series lacks {', '.join(missing)}, which the model was trained on")
        if len(series) < self.meta.min_points:
            raise ModelUnsuited(f"{len(series)} points are too few for the model, which needs {self.meta.min_points}")
        values = series.values
        if series.metrics != self.meta.metrics:
            values = values[:, [series.column(m) for m in self.meta.metrics]]
        feed = {
            "timestamp": np.ascontiguousarray(series.timestamps, np.int64),
            "step": np.array(self.meta.granularities[series.granularity], np.int64),
            "values": np.ascontiguousarray(values, np.float32),
            "k": np.array(k, np.float32),
            "causal": np.array(mode == "causal", np.int64),
            **self._numbers,
        }
        if self._leaves_out:
            feed["first"] = np.array(first, np.int64)
        try:
            answered = self._session.run(_OUTPUTS, feed)
        except _FOREIGN as error:
            raise ModelInvalid("the model failed on this series") from error
        return Scores(*answered) if len(answered[0]) == len(series) else _behind(answered, len(series))


def _behind(answered: Sequence[NDArray[np.float32]], points: int) -> Scores:
    """Put the answered rows [A, M] behind rows of NaN, to `points` rows."""
    whole = np.full((len(answered), points, answered[0].shape[1]), np.nan, np.float32)
    whole[:, points - len(answered[0]) :] = answered
    return Scores(*whole)


def _options() -> onnxruntime.SessionOptions:
    """One thread per call (workers and their threads are the parallelism), and no memory kept between calls.

    The graph runs as it is written: optimizing it takes as long again as the rest of loading, wins nothing measurable,
    and moves results by up to 2e-3.
    """
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = False
    options.enable_mem_pattern = False
    options.log_severity_level = 3
    return options
