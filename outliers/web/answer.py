"""The answer to one question, and how it is written for the wire; must not know how it was found."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

DIRECTIONS = {1: "up", -1: "down"}


@dataclass(frozen=True)
class ModelUsed:
    """Which model answered; `reason` says why it is not the one that was asked for or expected."""

    name: str | None
    version: str | None
    kind: str  # autoencoder or baseline
    threshold: float | None
    reason: str | None = None
    fallback: bool = False  # not on the wire: the reason is one to look into


@dataclass(frozen=True)
class Rows:
    """What is said of each row that was asked about, in the order of the input; arrays of one length [N].

    timestamps: as Druid wrote them. actual, forecast, lower, upper: raw units, NaN = none.
    score: 1.0 = the line, NaN = missing. direction: +1 up, -1 down. partial, unfinished: the bucket is not whole.
    carried: flagged inside its band, by its neighbours. metrics: by position of a flagged row, those that deviate,
    strongest first. metric: whose values these are, where it is not the same for all rows.
    """

    timestamps: list[str]
    actual: NDArray[np.float64]
    forecast: NDArray[np.float64]
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    score: NDArray[np.float64]
    flag: NDArray[np.bool_]
    carried: NDArray[np.bool_]
    direction: NDArray[np.int8]
    partial: NDArray[np.bool_]
    unfinished: NDArray[np.bool_]
    metrics: dict[int, tuple[str, ...]] = field(default_factory=dict)
    metric: list[str] | None = None

    def __len__(self) -> int:
        return len(self.timestamps)

    @classmethod
    def none(cls) -> Rows:
        numbers, marks = np.empty(0), np.empty(0, bool)
        return cls([], numbers, numbers, numbers, numbers, numbers, marks, marks, np.empty(0, np.int8), marks, marks)


@dataclass(frozen=True)
class Answer:
    """What `calculate` gives: rows and what they are about."""

    rows: Rows
    metric: str | None
    mode: str
    granularity: str | None
    model: ModelUsed
    lead_in: str | None = None
    warnings: tuple[str, ...] = ()


def as_json(answer: Answer, list_name: str = "prediction") -> bytes:
    """Write an answer; `list_name` is what the list of all rows is called in this dialect.

    orjson writes NaN and infinities as null, so every number on the wire is finite.
    """
    rows, model = answer.rows, answer.model
    written = {
        "status": "success",
        "anomalies": _anomalies(rows),
        list_name: _predictions(rows),
        "metric": answer.metric,
        "mode": answer.mode,
        "granularity": answer.granularity,
        "lead_in": answer.lead_in,
        "model": {
            "name": model.name,
            "version": model.version,
            "kind": model.kind,
            "threshold": model.threshold,
            "reason": model.reason,
        },
        "warnings": answer.warnings,
    }
    return orjson.dumps(written)


def _predictions(rows: Rows) -> list[dict[str, Any]]:
    numbers = (rows.forecast, rows.actual, rows.lower, rows.upper, rows.score)
    written = [
        {"timestamp": at, "forecast": forecast, "actual": actual, "lower": lower, "upper": upper, "score": score}
        for at, forecast, actual, lower, upper, score in zip(rows.timestamps, *(column.tolist() for column in numbers))
    ]
    if rows.metric is not None:
        for row, metric in zip(written, rows.metric):
            row["metric"] = metric
    for key, marks in (("partial", rows.partial), ("unfinished", rows.unfinished)):
        for position in np.flatnonzero(marks).tolist():
            written[position][key] = True
    return written


def _anomalies(rows: Rows) -> list[dict[str, Any]]:
    at = np.flatnonzero(rows.flag)
    columns = (rows.forecast, rows.actual, rows.score, rows.direction, rows.carried, rows.unfinished)
    written: dict[str, dict[str, Any]] = {}
    for position, expected, actual, score, direction, carried, unfinished in zip(
        at.tolist(), *(column[at].tolist() for column in columns)
    ):
        timestamp = rows.timestamps[position]
        row = written[timestamp] = {  # two rows of one bucket are one anomaly
            "timestamp": timestamp,
            "expected": expected,
            "actual": actual,
            "score": score,
            "direction": DIRECTIONS.get(direction),
            "metrics": rows.metrics.get(position, ()),
            "carried": carried,
        }
        if rows.metric is not None:
            row["metric"] = rows.metric[position]
        if unfinished:
            row["unfinished"] = True
    return list(written.values())
