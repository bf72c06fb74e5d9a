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
    windows: list  # first row, and row after the last, of each point's windows: the two levels', then the scales'
    tau: list  # C of [1, M]
    size: list  # C
    usual: list  # S of [1, M]
    limit: list  # S
    reached: list  # S
    joint_usual: list  # S of [1, 1]
    joint_limit: list  # S
    joint_reached: list  # S
    first: X = 0  # row from which on points are answered; all are context


def choose(op: Any, p: Parameters, step: X, count: X, causal: X, first: X = 0) -> Chosen:
    """Look up the tables' rows; between the lengths that were measured, interpolate over the logarithm."""
    g, m = len(p.steps), p.metrics
    index = op.index_of(step, p.steps)
    at = causal * g + index
    lengths = p.log_points.shape[1]
    rows = np.concatenate([p.offset, p.center, p.spread, p.unit, p.unit_slope, p.noise, p.points_per_day[:, None]], 1)
    row = op.reshape(op.pick(op.constant(rows, "float"), index), (1, -1))
    offset, center, spread, unit, unit_slope, noise, per_day = op.split(row, [m] * 6 + [1])
    measured = (p.tau, p.size, p.usual, p.limit, p.reached, p.joint_usual, p.joint_limit, p.joint_reached)
    table = np.concatenate([t.reshape(2 * g, lengths, -1) for t in measured], 2)
    here = op.matmul(_between_lengths(op, p, index, count), op.pick(op.constant(table, "float"), at))
    parts = op.split(here, [m] * (2 * CHANNELS + 3 * len(SCALES)) + [1] * (3 * len(SCALES)))
    cuts = np.cumsum([0, CHANNELS, CHANNELS] + [len(SCALES)] * 6)
    tau, size, usual, limit, reached, joint_usual, joint_limit, joint_reached = (
        parts[a:b] for a, b in zip(cuts, cuts[1:])
    )
    return Chosen(
        index=index, count=count, causal=causal,
        days=op.to_float(count) / per_day, prior=PRIOR_DAYS * per_day,
        offset=offset if p.offset.any() else None, center=center, spread=spread,
        unit=unit, unit_slope=unit_slope, noise=noise,
        windows=windows(op, p, at, count),
        tau=tau, size=size, usual=usual, limit=limit, reached=reached,
        joint_usual=joint_usual, joint_limit=joint_limit, joint_reached=joint_reached,
        first=first,
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


def windows(op: Any, p: Parameters, at: X, count: X) -> list:
    """(first row, row after the last) [T] of each point's windows: centred, or what came before in causal mode.

    The levels of a live point do not know the point itself, its scales do.
    """
    widths = [p.level_points, p.recent_points] + [np.full(len(p.steps), w) for w in SCALES]
    whole = [part for w in widths for part in (w // 2, w // 2 + 1)]
    live = [part for i, w in enumerate(widths) for part in ((w, 0 * w) if i < 2 else (w - 1, 0 * w + 1))]
    table = np.concatenate([np.stack(whole, 1), np.stack(live, 1)])
    reach = op.split(op.pick(op.constant(table, "int"), at), [1] * (2 * len(widths)))
    t = op.arange(count)
    return [(op.maximum(t - before, 0), op.minimum(t + after, count)) for before, after in zip(reach[::2], reach[1::2])]
