"""Noise of the residuals and the usual size of their energy, measured on training data at several query lengths.

It runs the very arithmetic that serves (`export.arithmetic`) on pieces of the data as long as queries are, because a
short query knows less of its level and of its neighbours; it must not know labels, lines or budgets.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from export.arithmetic import CLIP_SIZE, residual_centers
from export.chosen import PRIOR_DAYS, Chosen, columns, reaches
from export.distance import SHORTEST, clips, excess, judging, over_windows, own_energy, with_all_together
from export.parameters import CHANNELS, SCALES, Parameters
from export.torch_ops import TorchOps
from outliers.train.scaling import sorted_quantiles

LENGTHS = (16, 64, 320)  # points; the fourth is the whole of the data, at most:
LONGEST = 8192
_BUDGET = 8192  # points looked at for each length
_LINE = 0.99  # the energy's quantile that is distance 1; with M metrics, of which any may, 1 - 0.01 / M of each
LEAST_NOISE = 0.01  # in usual spreads
_LEAST_LIMIT = 0.3


@dataclass(frozen=True)
class Data:
    """One granularity as the network sees it: deviations g and what was seen [T, M] float32, trimmed.

    unseen [T, M]: the same deviations from a rhythm that was learned without them, as they will be in time to come.
    noise [M]: usual size of what the level of two hours leaves of those.
    """

    granularity: int
    step_s: int
    g: Tensor
    unseen: Tensor
    seen: Tensor
    noise: Tensor


def lengths_of(points: int) -> np.ndarray:
    """The query lengths to measure at [L], ascending; none longer than the data."""
    longest = min(points, LONGEST)
    return np.array([min(n, longest) for n in LENGTHS] + [longest])


def measured(p: Parameters, data: list[Data]) -> Parameters:
    """The same parameters with the tables tau, size, usual, limit (and joint) measured on the data."""
    g, lengths, m = len(p.steps), p.log_points.shape[1], p.metrics
    s = len(SCALES)
    of_scales = {"usual": (s, m), "limit": (s, m), "reached": (m,)}
    shapes: dict[str, tuple[int, ...]] = {"tau": (CHANNELS, m), "size": (CHANNELS, m), **of_scales}
    shapes.update(joint_usual=(s,), joint_limit=(s,), joint_reached=())
    tables: dict[str, Any] = {name: np.ones((2, g, lengths, *shape), np.float32) for name, shape in shapes.items()}
    for d in data:
        for i, length in enumerate(lengths_of(len(d.g))):
            for mode in (0, 1):
                for name, found in _measure(p, d, int(length), mode).items():
                    tables[name][mode, d.granularity, i] = found
    return dataclasses.replace(p, **tables)


def _pieces(x: Tensor, length: int) -> Tensor:
    """Pieces [B, length, M], evenly spread over the data."""
    n = int(np.clip(_BUDGET // length, 1, max(len(x) // max(length // 4, 1), 1)))
    starts = np.linspace(0, len(x) - length, n).astype(int)
    return x[torch.as_tensor(starts[:, None] + np.arange(length))]


def _measure(p: Parameters, d: Data, length: int, mode: int) -> dict[str, np.ndarray]:
    op, m = TorchOps(), p.metrics
    g, seen = _pieces(d.unseen, length), _pieces(d.seen, length)
    per_day = float(p.points_per_day[d.granularity])
    at, count = torch.tensor(mode * len(p.steps) + d.granularity), torch.tensor(length)
    span, recent, before, after = reaches(op, p, at, count)
    nothing = torch.zeros(0)  # is measured below
    c = Chosen(
        index=torch.tensor(d.granularity), count=count, causal=torch.tensor(mode),
        days=torch.tensor(length / per_day), prior=torch.tensor(PRIOR_DAYS * per_day),
        offset=None, center=torch.zeros(1), spread=torch.ones(1),
        unit=torch.ones(1), unit_slope=torch.zeros(1), noise=d.noise,
        span=span, recent=recent, before=before, after=after,
        tau=nothing, size=nothing, usual=nothing, limit=nothing, reached=nothing,
    )  # fmt: skip
    with torch.inference_mode():
        centers = residual_centers(op, p, c, g, seen)
        there = seen.reshape(-1, m) > 0
        tau, size, noise = [], [], []
        for center in centers:
            r = _column_data((g - center).abs(), there)
            half, high = sorted_quantiles(r, (0.5, 0.95))
            tau.append(np.maximum(np.nan_to_num(np.maximum(1.4826 * half, high / 1.96)), LEAST_NOISE))
            size.append(np.maximum(_mean(np.minimum(r / tau[-1], CLIP_SIZE)), 1e-3))
            noise.append(torch.as_tensor(tau[-1], dtype=torch.float32)[None])
        judges, n = judging(m), columns(m)
        away = op.concat([g - center for center in centers[:judges]])
        e, seen = with_all_together(op, own_energy(op, away, op.concat(noise[:judges]), m), seen, m)
        points = _column_data(e, seen.reshape(-1, n) > 0)
        usual = np.stack([_mean(np.minimum(points, clip)) for clip in clips(m)])
        resting = torch.as_tensor(usual.reshape(1, -1), dtype=torch.float32)
        over = over_windows(op, c, excess(op, resting, e, seen, m), 0, count, n).flatten(0, 1).numpy()
        energies = np.where(np.isnan(points)[:, None], np.nan, over / np.array(SCALES)[:, None] + usual)
    limit = _limits(energies[..., :m], 1 - (1 - _LINE) / m, np.maximum(_LEAST_LIMIT, 1.05 * usual[:, :m]))
    found = {"tau": np.stack(tau), "size": np.stack(size), "usual": usual[:, :m], "limit": limit}
    found["reached"] = _reached(points[:, :m], limit[SHORTEST])
    if m > 1:
        limit = _limits(energies[..., m:], _LINE, np.full((len(SCALES), 1), _LEAST_LIMIT))
        found.update(joint_usual=usual[:, m], joint_limit=limit[:, 0])
        found["joint_reached"] = _reached(points[:, m], limit[SHORTEST])
    return found


def _limits(energies: np.ndarray, share: float, least: np.ndarray) -> np.ndarray:
    """The quantile of energies [points, S, X] (NaN = missing) that is distance 1, at least `least` [S, X]."""
    found = sorted_quantiles(energies.reshape(len(energies), -1), (share,))[0]
    return np.maximum(np.nan_to_num(found, nan=1.0).reshape(least.shape), least)


def _reached(energies: np.ndarray, limit: np.ndarray) -> np.ndarray:
    """The mean share of the limit [X] that points [points, X] reach."""
    return np.maximum(_mean(np.minimum(energies / limit, 1.0)), 1e-3)


def _column_data(x: Tensor, there: Tensor) -> np.ndarray:
    """Points below one another [N, M], NaN where missing."""
    flat = x.reshape(-1, x.shape[-1])
    return torch.where(there, flat, torch.nan).numpy()


def _mean(x: np.ndarray) -> np.ndarray:
    return np.nansum(x, 0) / np.maximum(np.isfinite(x).sum(0), 1)
