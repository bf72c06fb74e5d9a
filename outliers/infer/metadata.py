"""What a model file says of itself, and where its line lies; it must not know onnxruntime or how a file is read."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Optional

from outliers.errors import ModelInvalid

CONTRACT_VERSION = 2  # 2: the input `first`; a file without it is still read, and answers every row
MODES = ("whole", "causal")
_UNREADABLE = (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError)
_KINDS: Mapping[str, tuple[type, ...]] = {  # of the fields that are taken as they are
    "name": (str,), "version": (str,), "data_source": (str,), "filter": (dict, type(None)), "window": (int,),
    "stride": (int,), "min_points": (int,), "trained_from": (int,), "trained_to": (int,), "points": (dict,),
    "validation": (dict,), "created_at": (str,), "parent": (str, type(None)), "libraries": (dict,),
    "settings_sha256": (str,),
}  # fmt: skip


@dataclass(frozen=True)
class Line:
    """Where the line lies for one granularity and mode, in the model's own sigmas.

    default: the fixed line. budgets: alarms a day (runs less than an hour apart are one) -> k, as counted on
        held-out training time; empty where that was too short to count on.
    """

    default: float
    budgets: Mapping[float, float] = field(default_factory=dict)

    def k(self, alarms_per_day: Optional[float] = None) -> float:
        """The k that keeps to a budget, log-linear between the counted ones; the fixed line without a budget."""
        if not alarms_per_day or not self.budgets:
            return self.default
        known = sorted(self.budgets)
        if alarms_per_day <= known[0]:
            return self.budgets[known[0]]
        for low, high in zip(known, known[1:]):
            if alarms_per_day <= high:
                part = math.log(alarms_per_day / low) / math.log(high / low)
                return self.budgets[low] + part * (self.budgets[high] - self.budgets[low])
        return self.budgets[known[-1]]


@dataclass(frozen=True)
class ModelMeta:
    """Everything an executor needs to decide whether and how a model answers, without running it.

    filter: the Druid filter in canonical form, None = the whole data source. granularities: canonical ISO text ->
    seconds of a bucket. lines: granularity -> mode -> Line. points: granularity -> buckets trained on.
    rarely_empty: granularities at which a bucket without events was an exception in training.
    trained_from, trained_to: Unix seconds. window, stride: points the autoencoder sees at once, and its step.
    """

    name: str
    version: str
    data_source: str
    filter: Optional[Mapping[str, Any]]
    metrics: tuple[str, ...]
    granularities: Mapping[str, int]
    lines: Mapping[str, Mapping[str, Line]]
    aggregations: tuple[Mapping[str, Any], ...] = ()
    post_aggregations: tuple[Mapping[str, Any], ...] = ()
    window: int = 32
    stride: int = 16
    min_points: int = 1
    trained_from: int = 0
    trained_to: int = 0
    points: Mapping[str, int] = field(default_factory=dict)
    rarely_empty: tuple[str, ...] = ()
    validation: Mapping[str, Any] = field(default_factory=dict)
    created_at: str = ""
    parent: Optional[str] = None
    libraries: Mapping[str, str] = field(default_factory=dict)
    settings_sha256: str = ""
    contract: int = CONTRACT_VERSION

    def line(self, granularity: str, mode: str = "whole") -> Line:
        """The line of a granularity and mode; KeyError if the model was not trained on it."""
        return self.lines[granularity][mode]

    def to_props(self) -> dict[str, str]:
        """The file's `metadata_props`: one JSON value a field."""
        return {f.name: json.dumps(_plain(getattr(self, f.name))) for f in fields(self)}

    @classmethod
    def from_props(cls, props: Mapping[str, str]) -> ModelMeta:
        """Read what `to_props` wrote.

        Raises ModelInvalid for a file that is not one of ours, is damaged, or is of a newer contract.
        """
        if "contract" not in props:
            raise ModelInvalid("the file carries no model metadata, so it is not a model of this service")
        try:
            contract = int(json.loads(props["contract"]))
        except _UNREADABLE as error:
            raise ModelInvalid("the model's metadata cannot be read") from error
        if contract > CONTRACT_VERSION:
            raise ModelInvalid(
                f"the model is of contract version {contract} and this executor knows up to {CONTRACT_VERSION}: "
                "upgrade the executor"
            )
        try:
            values = {f.name: json.loads(props[f.name]) for f in fields(cls) if f.name in props}
            values["metrics"] = _names(values["metrics"])
            values["granularities"] = {str(g): int(step_s) for g, step_s in values["granularities"].items()}
            for name in ("aggregations", "post_aggregations", "rarely_empty"):
                values[name] = tuple(values.get(name, ()))
            values["lines"] = {
                granularity: {mode: _line(line) for mode, line in by_mode.items()}
                for granularity, by_mode in values["lines"].items()
            }
            for granularity in values["granularities"]:
                _ = [values["lines"][granularity][mode] for mode in MODES]
            for name in _KINDS.keys() & values.keys():
                if not isinstance(values[name], _KINDS[name]):
                    raise ValueError(f"{name} is not of its kind")
            return cls(**values)
        except _UNREADABLE as error:
            raise ModelInvalid("the model's metadata cannot be read") from error


def _names(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not value:
        raise ValueError("not a list of names")
    return tuple(str(name) for name in value)


def _line(value: Mapping[str, Any]) -> Line:
    line = Line(float(value["default"]), {float(b): float(k) for b, k in value["budgets"].items()})
    if not all(0 < number < math.inf for number in (line.default, *line.budgets, *line.budgets.values())):
        raise ValueError("not a line")
    return line


def _plain(value: Any) -> Any:
    """The JSON form of a field: dataclasses and tuples become plain containers."""
    if isinstance(value, Line):
        return {"default": value.default, "budgets": {format(b, "g"): k for b, k in value.budgets.items()}}
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return value
