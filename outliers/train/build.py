"""One model from a name's past: fitted, calibrated and judged on held-out time, then refitted on all of it.

It must not know Druid, the store or the queue; the training job calls it, and so do the benchmarks.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Optional

import numpy as np
import torch

from export.parity import torch_scores
from outliers.errors import TooLittleData
from outliers.infer.metadata import MODES, Line
from outliers.infer.model import Model
from outliers.infer.ratios import as_ratios
from outliers.series import Series, lead_in_s
from outliers.train import calibrate, trim
from outliers.train.fit import MIN_POINTS, FitSettings, Fitted, fit
from outliers.train.gate import GateResult, Trial, gate
from outliers.train.levels import moving_level, recent_points

HELD_OUT = 0.25  # the newest share of each granularity
_REFIT_STEPS = 200


@dataclass(frozen=True)
class Built:
    """A model, where its lines lie, what the gate says of it, and the figures that belong into its metadata."""

    fitted: Fitted
    lines: Mapping[str, Mapping[str, Line]]
    gate: GateResult
    validation: Mapping[str, Any]


def build(
    series_by_granularity: Mapping[str, Series],
    settings: FitSettings,
    *,
    serving: Optional[Model] = None,
    start_from: Optional[Mapping[str, torch.Tensor]] = None,
    progress: Optional[Callable[[float, str], None]] = None,
) -> Built:
    """Fit on the older part, calibrate and judge on the newer one, refit on all.

    start_from: weights of the served version; only the refit sees them, since they may know the held-out time.
    A few granularities that fail alone are left out, if nothing served has them. Raises TooLittleData and TrainingError
    as `fit` does; a model that the gate refuses is returned, not raised, and is not refitted.
    """
    tell = progress or (lambda part, text: None)
    early = {name: _part(s, 0, _cut(s)) for name, s in series_by_granularity.items() if _cut(s) >= MIN_POINTS}
    try:
        first = fit(early, settings, progress=lambda part, text: tell(0.55 * part, text))
    except TooLittleData:
        whole = fit(series_by_granularity, settings, progress=tell, start_from=start_from)
        lines = calibrate.lines({}, whole.granularities)
        return Built(whole, lines, GateResult(True), {"loss": whole.training.validation_loss})
    tell(0.6, "calibrating on held-out time")
    trials = {name: _trial(series_by_granularity[name], first, name) for name in first.granularities}
    held_by = {
        (name, mode): calibrate.held(t.series, torch_scores(first, t.series, 1.0, mode), t.first, mode)
        for name, t in trials.items()
        for mode in MODES
    }
    judged_by = calibrate.lines({key: h.part(0.0, 0.5) for key, h in held_by.items()}, first.granularities)
    result = gate(first, judged_by, trials, held_by, serving)
    validation = {"loss": first.training.validation_loss, "gate": dict(result.figures)}
    kept = {name: s for name, s in series_by_granularity.items() if name not in result.refused}
    if not result.passed and not _may_do_without(result, serving):
        return Built(first, judged_by, result, validation)
    again = dataclasses.replace(settings, max_steps=min(settings.max_steps, _REFIT_STEPS))
    weights = first.state if list(first.granularities) == list(_fittable(kept)) else None
    fitted = fit(
        kept, again if weights else settings,
        progress=lambda part, text: tell(0.7 + 0.3 * part, text),
        start_from=weights or (None if result.refused else start_from),
    )  # fmt: skip
    if result.refused:
        fitted = dataclasses.replace(fitted, left_out={**fitted.left_out, **result.refused})
        result = dataclasses.replace(result, passed=True)
        validation["gate"] = {name: figures for name, figures in result.figures.items() if name in kept}
    return Built(fitted, calibrate.lines(held_by, fitted.granularities), result, validation)


def _may_do_without(result: GateResult, serving: Optional[Model]) -> bool:
    """Tell whether a model without what was refused is better than none: more passed, and none of it is served."""
    served = serving.meta.granularities if serving is not None else {}
    passed = len(result.figures) - len(result.refused)
    return 0 < len(result.refused) < passed and not any(name in served for name in result.refused)


def _fittable(series_by_granularity: Mapping[str, Series]) -> list[str]:
    return [n for n, s in series_by_granularity.items() if len(s) and np.isfinite(s.values).any(1).sum() >= MIN_POINTS]


def _cut(series: Series) -> int:
    return int(len(series) * (1 - HELD_OUT))


def _part(s: Series, start: int, stop: int) -> Series:
    return Series(s.timestamps[start:stop], s.values[start:stop], s.metrics, s.granularity, s.step_s)


def _trial(series: Series, fitted: Fitted, name: str) -> Trial:
    """Held-out time with a lead-in before it, what is suspicious in it taken out."""
    cut = _cut(series)
    lead = min(lead_in_s(series.step_s) // series.step_s, cut)
    part = _part(series, cut - lead, len(series))
    offset = fitted.parameters.offset[list(fitted.granularities).index(name)]
    g = fitted.scalings[name].deviations(part.timestamps, as_ratios(part.values, offset), part.step_s)
    out = trim.suspicious(g, moving_level(g, recent_points(part.step_s)), part.step_s)
    values = np.where(out, np.nan, part.values)
    return Trial(Series(part.timestamps, values, part.metrics, part.granularity, part.step_s), lead)
