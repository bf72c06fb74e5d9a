"""The detectors that are compared, under one interface; knows nothing of labels or of how a series is cut up.

`fit` sees the first half of a series. `answer` sees one query (its lead-in included) and which points are asked, and
returns score and flag of every point. The project's own answers go through the judge, as `/calculate`'s do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Optional, Protocol

import numpy as np

from benchmarks import old_service, reference
from outliers.config import Detection
from outliers.infer import baseline
from outliers.infer.judge import ANY, judge
from outliers.infer.scores import Scores
from outliers.series import Series

Answer = tuple[np.ndarray, np.ndarray]


class Detector(Protocol):
    def fit(self, series: Series) -> None: ...

    def answer(self, series: Series, asked: np.ndarray, mode: str) -> Answer: ...


@dataclass
class Settings:
    """What may be changed from the command line. alarms_per_day: the model's budget, by default the service's own."""

    k: Optional[float] = None
    alarms_per_day: float = Detection().alarms_per_day
    witness: bool = True
    epochs: Optional[int] = None


def judged(series: Series, scores: Scores, asked: np.ndarray, mode: str, witness: bool) -> Answer:
    """The judge's final score and flag, of the one metric or of the one that is furthest out."""
    metric = series.metrics[0] if len(series.metrics) == 1 else ANY
    verdict = judge(series, scores, metric, mode=mode, judged=asked, witness=witness)
    return verdict.score, verdict.flag


class Baseline:
    """The detector without a model."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def fit(self, series: Series) -> None:
        pass

    def answer(self, series: Series, asked: np.ndarray, mode: str) -> Answer:
        scores, _ = baseline.score(series, self._settings.k, mode)
        return judged(series, scores, asked, mode, self._settings.witness)


class Trained:
    """A model of the series' own, fitted, exported and loaded as the service does it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._model: Any = None

    def fit(self, series: Series) -> None:
        from benchmarks.training import fitted_model  # torch only where it is asked for

        self._model = fitted_model(series, self._settings.epochs)

    def answer(self, series: Series, asked: np.ndarray, mode: str) -> Answer:
        from outliers.errors import ModelUnsuited

        try:
            scores = self._model.score(series, self._settings.k, mode, self._settings.alarms_per_day)
        except ModelUnsuited:
            scores, _ = baseline.score(series, self._settings.k, mode)
        return judged(series, scores, asked, mode, self._settings.witness)


class Reference:
    """The detector to beat (`benchmarks/reference.py`)."""

    def __init__(self, settings: Settings) -> None:
        pass

    def fit(self, series: Series) -> None:
        pass

    def answer(self, series: Series, asked: np.ndarray, mode: str) -> Answer:
        if mode == "causal":
            return reference.answer_causal(series, int(np.argmax(asked)))
        return reference.answer(series)


class OldService:
    """What an operator has today without a model (`benchmarks/old_service.py`); it has no causal mode."""

    def __init__(self, settings: Settings) -> None:
        pass

    def fit(self, series: Series) -> None:
        pass

    def answer(self, series: Series, asked: np.ndarray, mode: str) -> Answer:
        return old_service.answer(series)


DETECTORS = {"baseline": Baseline, "model": Trained, "reference": Reference, "old": OldService}
