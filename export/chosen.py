"""What holds for one granularity, mode and query length: rows of a model's tables, looked up once a query.

It knows the tables' shapes and the operations it is handed; it must not know what is done with what it finds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from export.parameters import CHANNELS, SCALES, Parameters

X = Any  # a torch Tensor or an ONNX Value

PRIOR_DAYS = 0.1  # the sensor's usual level is worth this much data


@dataclass(frozen=True)
class Chosen:
    """What holds for one granularity, mode and query length: a row of each of the model's tables."""

    index: X  # of the granularity
    count: X  # points of the query
    causal: X
    days: X
    prior: X  # points that the usual level is worth
    offset: X  # [1, M], None where no metric is judged by ratios
    center: X
    spread: X
    unit: X
    unit_slope: X
    noise: X
    span: tuple  # first row, and row after the last, [T] each, of the points that tell the level of days
    recent: tuple  # the same of two hours
    before: X  # [1, S] points before each point that a scale looks at,
    after: X  # [1, S] and those after it, itself included
    tau: X  # [1, C * M] noise of each channel
    size: X  # [1, C * M]
    usual: X  # [1, S * N] of each scale: its M metrics and, of several, all together
    limit: X  # [1, S * N]
    reached: X  # [1, N] mean share of the shortest scale's limit that points reach
    first: X = 0  # row from which on points are answered; all are context


def choose(op: Any, p: Parameters, step: X, count: X, causal: X, first: X = 0) -> Chosen:
    """Look up the tables' rows; between the lengths that were measured, interpolate over the logarithm."""
    g, m, n = len(p.steps), p.metrics, columns(p.metrics)
    index = op.index_of(step, p.steps)
    at = causal * g + index
    lengths = p.log_points.shape[1]
    rows = np.concatenate([p.offset, p.center, p.spread, p.unit, p.unit_slope, p.noise, p.points_per_day[:, None]], 1)
    row = op.reshape(op.pick(op.constant(rows, "float"), index), (1, -1))
    offset, center, spread, unit, unit_slope, noise, per_day = op.split(row, [m] * 6 + [1])
    measured = [p.tau, p.size, _with_joint(p.usual, p.joint_usual, m), _with_joint(p.limit, p.joint_limit, m),
                _with_joint(p.reached, p.joint_reached, m)]  # fmt: skip
    table = np.concatenate([t.reshape(2 * g, lengths, -1) for t in measured], 2)
    here = op.matmul(_between_lengths(op, p, index, count), op.pick(op.constant(table, "float"), at))
    tau, size, usual, limit, reached = op.split(here, [CHANNELS * m] * 2 + [len(SCALES) * n] * 2 + [n])
    span, recent, before, after = reaches(op, p, at, count)
    return Chosen(
        index=index, count=count, causal=causal,
        days=op.to_float(count) / per_day, prior=PRIOR_DAYS * per_day,
        offset=offset if p.offset.any() else None, center=center, spread=spread,
        unit=unit, unit_slope=unit_slope, noise=noise,
        span=span, recent=recent, before=before, after=after,
        tau=tau, size=size, usual=usual, limit=limit, reached=reached, first=first,
    )  # fmt: skip


def _between_lengths(op: Any, p: Parameters, index: X, count: X) -> X:
    """Weights [1, L] of the measured lengths, of which two neighbours are not 0."""
    lengths = p.log_points.shape[1]
    if lengths == 1:
        return op.constant(np.ones((1, 1)), "float")
    gaps = np.maximum(np.diff(p.log_points, axis=1), 1e-6)
    both = op.pick(op.constant(np.concatenate([p.log_points[:, :-1], gaps], 1), "float"), index)
    low, gap = op.split(op.reshape(both, (1, -1)), [lengths - 1, lengths - 1])
    at = op.sum_last(op.clip((op.log(op.to_float(count)) - low) / gap, 0.0, 1.0))
    away = op.abs(op.constant(np.arange(lengths)[None], "float") - at)
    return op.maximum(1.0 - away, 0.0)


def columns(m: int) -> int:
    """N, the columns of a scale: a metric is all there is, several have one for all of them together besides."""
    return m + (m > 1)


def _with_joint(own: np.ndarray, joint: np.ndarray, m: int) -> np.ndarray:
    """[..., M] and [...] -> [..., N]."""
    return own if m == 1 else np.concatenate([own, joint[..., None]], -1)


def reaches(op: Any, p: Parameters, at: X, count: X) -> tuple[tuple, tuple, X, X]:
    """How far the levels and the scales look from each point: centred, or at what came before in causal mode.

    The levels of a live point do not know the point itself, its scales do. Returns (low, high) [T] of both levels,
    and (before, after) [1, S] of the scales.
    """
    levels = np.stack([p.level_points, p.recent_points], 1)
    scales = np.repeat(np.array(SCALES)[None], len(p.steps), 0)
    whole = [levels // 2, scales // 2, levels // 2 + 1, scales // 2 + 1]
    live = [levels, scales - 1, 0 * levels, 0 * scales + 1]
    table = np.concatenate([np.concatenate(whole, 1), np.concatenate(live, 1)])
    row = op.reshape(op.pick(op.constant(table, "int"), at), (1, -1))
    level_before, before, level_after, after = op.split(row, [2, len(SCALES)] * 2)
    low, high = between(op, op.arange(count), op.reshape(level_before, (2, 1)), op.reshape(level_after, (2, 1)), count)
    span, recent = ((op.pick(low, i), op.pick(high, i)) for i in (0, 1))
    return span, recent, before, after


def between(op: Any, t: X, before: X, after: X, count: X) -> tuple[X, X]:
    """(first row, row after the last) of what lies around rows t, within the query."""
    return op.maximum(t - before, 0), op.minimum(t + after, count)
