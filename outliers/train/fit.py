"""From series to a fitted model, top to bottom; it must not know where the series come from or where the model goes."""

from __future__ import annotations

import dataclasses
import io
import pickle  # for the name of the error that torch raises
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Optional

import numpy as np
import torch

from export.arithmetic import DAY_S, WEEK_S
from export.autoencoder import window_unit
from export.parameters import Parameters
from export.torch_ops import TorchOps
from outliers.errors import TooLittleData, TrainingError
from outliers.infer.ratios import as_ratios
from outliers.series import Series
from outliers.train import habit, measure, network, ratios, trim
from outliers.train.levels import level_points, moving_level, recent_points
from outliers.train.scaling import Rhythm, Scaling, fit_scaling, rescaled, robust_size

Progress = Callable[[float, str], None]
MIN_POINTS = 64  # buckets with a value, below which a granularity is left out
_SHOWS_WEEK_S = 2 * WEEK_S
_VALIDATE = 0.15  # the newest share of each granularity, which the network does not learn from
_STRIDE = 8  # an epoch sees every place at this stride once


@dataclass(frozen=True)
class FitSettings:
    """epochs: passes over the data at most; it stops early. batch_size: windows a step."""

    epochs: int = 20
    batch_size: int = 32
    seed: int = 42
    max_steps: int = 800


@dataclass(frozen=True)
class Fitted:
    """A fitted model: what the graph needs (`parameters`), what training continues from (`state`), how it went."""

    metrics: tuple[str, ...]
    granularities: Mapping[str, int]
    parameters: Parameters
    scalings: Mapping[str, Scaling]
    state: Mapping[str, torch.Tensor]
    training: network.Trained
    points: Mapping[str, int]
    left_out: Mapping[str, str]

    def weights_bytes(self) -> bytes:
        """What `.pt` holds: tensors and plain values only, so that it loads with weights_only."""
        buffer = io.BytesIO()
        shape = {"metrics": list(self.metrics), "granularities": list(self.granularities)}
        torch.save({"state": dict(self.state), **shape}, buffer)
        return buffer.getvalue()


def read_weights(data: bytes, metrics: tuple[str, ...], granularities: Mapping[str, int]) -> Optional[dict[str, Any]]:
    """The state to continue from; None if the weights are of another shape or cannot be read safely."""
    try:
        saved = torch.load(io.BytesIO(data), weights_only=True)
        if saved["metrics"] != list(metrics) or saved["granularities"] != list(granularities):
            return None
        return dict(saved["state"])
    except (pickle.UnpicklingError, RuntimeError, KeyError, TypeError, ValueError, EOFError, OSError):
        return None


def fit(
    series_by_granularity: Mapping[str, Series],
    settings: FitSettings,
    *,
    progress: Optional[Progress] = None,
    start_from: Optional[Mapping[str, torch.Tensor]] = None,
) -> Fitted:
    """Learn everything a model file holds.

    series_by_granularity: canonical ISO text -> series of the same metrics. start_from: a `Fitted.state` of the same
    shape. Raises TooLittleData if no granularity has enough points, TrainingError if the network did not converge.
    """
    tell = progress or (lambda fraction, text: None)
    usable, left_out = _usable(series_by_granularity)
    metrics = next(iter(usable.values())).metrics
    torch.manual_seed(settings.seed)
    tell(0.02, "scaling and rhythm")
    offsets = ratios.offsets(list(usable.values()))
    moved = [dataclasses.replace(s, values=as_ratios(s.values, offset)) for s, offset in zip(usable.values(), offsets)]
    prepared = _prepare_all(moved)
    scalings = {name: scaling for name, (scaling, _) in zip(usable, prepared)}
    data = [d for _, d in prepared]
    model = network.Autoencoder(len(data), len(metrics))
    training = _train(model, data, settings, tell, start_from)
    weights, embedding = model.arrays()
    if not all(np.isfinite(w).all() for w in (*weights.values(), embedding)):
        raise TrainingError("the network did not converge: its weights are not finite")
    tell(0.85, "measuring the residuals")
    parameters = _parameters(list(usable.values()), list(scalings.values()), offsets, data, weights, embedding)
    parameters = measure.measured(parameters, data)
    tell(0.95, "looking for habits")
    parameters = habit.with_habits(parameters, list(usable.values()))
    tell(1.0, "fitted")
    return Fitted(
        metrics=metrics,
        granularities={name: s.step_s for name, s in usable.items()},
        parameters=parameters,
        scalings=scalings,
        state={name: value.detach().clone() for name, value in model.state_dict().items()},
        training=training,
        points={name: len(s) for name, s in usable.items()},
        left_out=left_out,
    )


def _usable(series_by_granularity: Mapping[str, Series]) -> tuple[dict[str, Series], dict[str, str]]:
    usable, left_out = {}, {}
    for name, series in series_by_granularity.items():
        seen = int(np.isfinite(series.values).any(1).sum()) if len(series) else 0
        if seen < MIN_POINTS:
            left_out[name] = f"{seen} points where {MIN_POINTS} are needed"
        else:
            usable[name] = series
    if not usable:
        told = ", ".join(f"{name}: {why}" for name, why in left_out.items()) or "no granularity was asked for"
        raise TooLittleData(f"too little data ({told})")
    if len({s.metrics for s in usable.values()}) > 1:
        raise TrainingError("the granularities do not carry the same metrics")
    return usable, left_out


def _prepare_all(series: list[Series]) -> list[tuple[Scaling, measure.Data]]:
    """Each granularity prepared; one whose past is too short to show a week takes the finest longer one's rhythm."""
    found: dict[int, tuple[Scaling, measure.Data]] = {}
    week: Optional[Rhythm] = None
    for i in sorted(range(len(series)), key=lambda i: -series[i].step_s):
        shows_week = len(series[i]) * series[i].step_s >= _SHOWS_WEEK_S
        scaling, values = _trimmed(series[i], None if shows_week else week)
        if shows_week:
            week = scaling.weekly
        found[i] = _prepare(i, series[i], scaling, values)
    return [found[i] for i in range(len(series))]


def _trimmed(series: Series, week: Optional[Rhythm]) -> tuple[Scaling, np.ndarray]:
    """Scaling and rhythm without what is suspicious, and the values without it [T, M]."""
    first = fit_scaling(series.timestamps, series.values, series.step_s, week)
    g = first.deviations(series.timestamps, series.values, series.step_s)
    out = trim.suspicious(g, moving_level(g, recent_points(series.step_s)), series.step_s)
    values = np.where(out, np.nan, series.values)
    return fit_scaling(series.timestamps, values, series.step_s, week), values


def _prepare(granularity: int, series: Series, scaling: Scaling, values: np.ndarray) -> tuple[Scaling, measure.Data]:
    """The scaling in the network's units, and the deviations in them."""
    scaling = rescaled(scaling, scaling.deviations(series.timestamps, values, series.step_s))
    g, unseen = (scaling.deviations(series.timestamps, values, series.step_s, part) for part in (False, True))
    return scaling, measure.Data(
        granularity,
        series.step_s,
        g=torch.as_tensor(np.nan_to_num(g), dtype=torch.float32),
        unseen=torch.as_tensor(np.nan_to_num(unseen), dtype=torch.float32),
        seen=torch.as_tensor(np.isfinite(g), dtype=torch.float32),
        noise=torch.as_tensor(_noise(unseen, series.step_s), dtype=torch.float32),
    )


def _train(
    model: network.Autoencoder,
    data: list[measure.Data],
    settings: FitSettings,
    tell: Progress,
    start_from: Optional[Mapping[str, torch.Tensor]],
) -> network.Trained:
    early, late = [], []
    for d in data:
        cut = int(len(d.g) * (1 - _VALIDATE))
        g = d.g / window_unit(TorchOps(), d.noise)
        early.append(network.Stretch(d.granularity, g[:cut], d.seen[:cut]))
        late.append(network.Stretch(d.granularity, g[cut:], d.seen[cut:]))
    points = sum(len(s.g) for s in early)
    steps = int(np.clip(settings.epochs * points / _STRIDE / settings.batch_size, 50, settings.max_steps))
    return network.train(
        model, early, late, steps, settings.batch_size, settings.seed,
        progress=lambda part, text: tell(0.1 + 0.7 * part, text), start_from=start_from,
    )  # fmt: skip


def _parameters(
    series: list[Series],
    scalings: list[Scaling],
    offsets: list[np.ndarray],
    data: list[measure.Data],
    weights: Mapping[str, np.ndarray],
    embedding: np.ndarray,
) -> Parameters:
    """The graph's tables, all but the measured ones. series: in raw units."""

    def stack(rhythms: list[Any]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        bins = np.array([len(r.table) for r in rhythms])
        table = np.concatenate([r.table for r in rhythms]).astype(np.float32)
        return table, bins, np.concatenate([[0], np.cumsum(bins)[:-1]])

    daily, daily_bins, daily_offset = stack([s.daily for s in scalings])
    weekly, weekly_bins, weekly_offset = stack([s.weekly for s in scalings])
    nothing = np.zeros(0, np.float32)
    return Parameters(
        steps=np.array([s.step_s for s in series]),
        level_points=np.array([level_points(s.step_s) for s in series]),
        recent_points=np.array([recent_points(s.step_s) for s in series]),
        points_per_day=np.array([DAY_S / s.step_s for s in series], np.float32),
        offset=np.stack(offsets).astype(np.float32),
        center=np.stack([_raw(s.center, o) for s, o in zip(scalings, offsets)]).astype(np.float32),
        spread=np.stack([s.spread for s in scalings]).astype(np.float32),
        unit=np.stack([s.unit for s in scalings]).astype(np.float32),
        unit_slope=np.stack([s.unit_slope for s in scalings]).astype(np.float32),
        noise=np.stack([d.noise.numpy() for d in data]),
        daily=daily, daily_bins=daily_bins, daily_offset=daily_offset,
        weekly=weekly, weekly_bins=weekly_bins, weekly_offset=weekly_offset,
        log_points=np.log(np.stack([measure.lengths_of(len(s)) for s in series])).astype(np.float32),
        tau=nothing, size=nothing, usual=nothing, limit=nothing, reached=nothing,
        joint_usual=nothing, joint_limit=nothing, joint_reached=nothing,
        habit=habit.none(len(series), offsets[0].size),
        embedding=embedding, weights=dict(weights),
    )  # fmt: skip


def _raw(center: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """The usual values [M] plus their offsets, in raw units: a logarithm's is that of its center."""
    return np.where(offset > 0, np.exp(np.where(offset > 0, center, 0.0)), center)


def _noise(g: np.ndarray, step_s: int) -> np.ndarray:
    """Usual size [M] of what the level of two hours leaves of the deviations [T, M], NaN = missing."""
    return np.maximum(np.nan_to_num(robust_size(g - moving_level(g, recent_points(step_s)))), measure.LEAST_NOISE)
