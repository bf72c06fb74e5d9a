"""Noise of the residuals and the usual size of their energy, measured on training data at several query lengths.

It runs the very arithmetic that serves (`export.arithmetic`) on pieces of the data as long as queries are, because a
short query knows less of its level and of its neighbours; it must not know labels, lines or budgets.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from export.arithmetic import (
    CLIP_ENERGY,
    CLIP_SIZE,
    PRIOR_DAYS,
    Chosen,
    energy,
    residual_centers,
    scale_sums,
)
from export.parameters import CHANNELS, SCALES, Parameters
from export.torch_ops import TorchOps
from outliers.train.scaling import sorted_quantiles

LENGTHS = (16, 64, 320)  # points; the fourth is the whole of the data, at most:
LONGEST = 8192
_BUDGET = 8192  # points looked at for each length
_LINE = 0.99  # the energy's quantile that is distance 1
_LEAST_NOISE = 0.01  # in usual spreads
_LEAST_LIMIT = 0.3


@dataclass(frozen=True)
class Data:
    """One granularity as the network sees it: deviations g and what was seen [T, M] float32, trimmed."""

    granularity: int
    step_s: int
    g: Tensor
    seen: Tensor


def lengths_of(points: int) -> np.ndarray:
    """The query lengths to measure at [L], ascending; none longer than the data."""
    longest = min(points, LONGEST)
    return np.array([min(n, longest) for n in LENGTHS] + [longest])


def measured(p: Parameters, data: list[Data]) -> Parameters:
    """The same parameters with the tables tau, size, usual, limit (and joint) measured on the data."""
    g, lengths, m = len(p.steps), p.log_points.shape[1], p.metrics
    s = len(SCALES)
    tau = np.ones((2, g, lengths, CHANNELS, m), np.float32)
    size, usual = tau.copy(), np.ones((2, g, lengths, s, m), np.float32)
    limit, joint_usual = usual.copy(), np.ones((2, g, lengths, s), np.float32)
    joint_limit = joint_usual.copy()
    for d in data:
        for i, length in enumerate(lengths_of(len(d.g))):
            for mode in (0, 1):
                found = _measure(p, d, int(length), mode)
                at = (mode, d.granularity, i)
                tau[at], size[at], usual[at], limit[at], joint_usual[at], joint_limit[at] = found
    return dataclasses.replace(
        p, tau=tau, size=size, usual=usual, limit=limit, joint_usual=joint_usual, joint_limit=joint_limit
    )


def _pieces(x: Tensor, length: int) -> Tensor:
    """Pieces [B, length, M], evenly spread over the data."""
    n = int(np.clip(_BUDGET // length, 1, max(len(x) // max(length // 4, 1), 1)))
    starts = np.linspace(0, len(x) - length, n).astype(int)
    return x[torch.as_tensor(starts[:, None] + np.arange(length))]


def _measure(p: Parameters, d: Data, length: int, mode: int) -> tuple[np.ndarray, ...]:
    op, m = TorchOps(), p.metrics
    g, seen = _pieces(d.g, length), _pieces(d.seen, length)
    per_day = float(p.points_per_day[d.granularity])
    blank = torch.zeros(1)
    c = Chosen(
        index=torch.tensor(d.granularity), count=torch.tensor(length), causal=torch.tensor(mode),
        days=torch.tensor(length / per_day), prior=torch.tensor(PRIOR_DAYS * per_day), center=blank, spread=blank,
        recent=torch.tensor(int(p.recent_points[d.granularity])), level=torch.tensor(int(p.level_points[d.granularity])),
        tau=blank, size=blank, usual=torch.zeros(1, len(SCALES) * m), limit=blank,
        joint_usual=torch.zeros(1, len(SCALES)), joint_limit=blank,
    )  # fmt: skip
    with torch.inference_mode():
        centers = residual_centers(op, p, c, g, seen)
        there = seen.reshape(-1, m) > 0
        tau, size, noise = [], [], []
        for center in centers:
            r = _column_data((g - center).abs(), there)
            half, high = sorted_quantiles(r, (0.5, 0.95))
            tau.append(np.maximum(np.nan_to_num(np.maximum(1.4826 * half, high / 1.96)), _LEAST_NOISE))
            size.append(np.maximum(_mean(np.minimum(r / tau[-1], CLIP_SIZE)), 1e-3))
            noise.append(torch.as_tensor(tau[-1], dtype=torch.float32)[None])
        e = energy(op, g, centers, noise).total
        usual = np.stack([_mean(_column_data(e.clamp(max=clip), there)) for clip in CLIP_ENERGY])
        joint_usual = np.zeros(len(SCALES))
        if m > 1:
            together = (e.clamp(max=25.0) * seen).sum(-1, keepdim=True) / seen.sum(-1, keepdim=True).clamp(min=1)
            joint_usual[:] = float(_mean(_column_data(together, there.any(1, keepdim=True)))[0])
        c = dataclasses.replace(
            c,
            usual=torch.as_tensor(usual.reshape(1, -1), dtype=torch.float32),
            joint_usual=torch.as_tensor(joint_usual[None], dtype=torch.float32),
        )
        own, joint, _, _ = scale_sums(op, p, c, e, seen)
        limit = np.stack([sorted_quantiles(_column_data(o, there), (_LINE,))[0] for o in own])
        joint_limit = np.ones(len(SCALES))
        if m > 1:
            some = there.any(1, keepdim=True)
            joint_limit = np.array([sorted_quantiles(_column_data(j, some), (_LINE,))[0][0] for j in joint])
    floor = np.maximum(_LEAST_LIMIT, 1.05 * usual)
    return (
        np.stack(tau), np.stack(size), usual, np.maximum(np.nan_to_num(limit, nan=1.0), floor),
        joint_usual, np.maximum(np.nan_to_num(joint_limit, nan=1.0), _LEAST_LIMIT),
    )  # fmt: skip


def _column_data(x: Tensor, there: Tensor) -> np.ndarray:
    """Points below one another [N, M], NaN where missing."""
    flat = x.reshape(-1, x.shape[-1])
    return torch.where(there, flat, torch.nan).numpy().astype(np.float64)


def _mean(x: np.ndarray) -> np.ndarray:
    return np.nansum(x, 0) / np.maximum(np.isfinite(x).sum(0), 1)
