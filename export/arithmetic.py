"""The detector's arithmetic from raw values to score and band, written once for torch and for the ONNX file.

It knows only the operations it is handed (`TorchOps` computes, `OnnxOps` writes a graph), so training and serving
cannot drift apart; it must not know how its parameters were found. Rows are points, columns metrics; docs/model.md
has the design in words and what each choice is worth.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from export.autoencoder import reconstruct, window_unit
from export.chosen import Chosen, X, choose
from export.distance import WIDEN_DAYS, judge_scales, judging, own_energy, parabola
from export.parameters import CHANNELS, Parameters

DAY_S, WEEK_S = 86_400, 604_800
CLIP_SCALED = 200.0  # no value is further than this from its usual one, in usual spreads
LEAST_UNIT = 0.1  # of a usual deviation: the quietest time of a day is not trusted to be quieter
FAR = 6.0  # usual noises, beyond which a deviation says nothing of its neighbours
GONE = 9.0  # usual deviations, beyond which a value has left its level
LEFT = 0.2  # of the points of two hours: fewer that are still at the level of days mean that the level has moved
CLIP_SIZE = 3.0  # z that counts at most towards the size of a query's residual
LEAST_SHARE = 1e-6  # of the points that were observed: where none was, nothing is divided
LEAST_SIZE = 0.1  # what never moved in training and moves once must not widen twice


def detect(op: Any, p: Parameters, timestamp: X, step: X, values: X, k: X, causal: X, first: X) -> dict[str, X]:
    """All of it: expected, lower, upper in raw units, score and own as distance over the distance of the line.

    [T - first, M] each: rows before `first` are context.
    """
    m = p.metrics
    c = choose(op, p, step, op.length(timestamp), causal, first)
    course = rhythm(op, p, c.index, timestamp, step)
    unit = unit_of(op, c, course)
    g, seen = deviations(op, c, course, unit, values)
    centers = residual_centers(op, p, c, g, seen)
    away = op.concat([g - center for center in centers[: judging(m)]])
    noise = widened(op, c, away, seen, m)
    e = own_energy(op, away, noise, m)
    line = op.rows_from(line_of(op, p, c, timestamp, k), first)
    unit, course, values = (op.rows_from(x, first) for x in (unit, course, values))
    answered = [center if i >= judging(m) else op.rows_from(center, first) for i, center in enumerate(centers)]
    curve = parabola(op, answered[: judging(m)], noise, m)
    best, shortest, reach = judge_scales(op, c, e, curve.floor, seen, line * line, m)
    room = op.sqrt(op.maximum(reach - curve.floor, 0.0) / curve.curvature) * unit
    there = op.observed(values)
    expected = (answered[-1] * unit + course) * c.spread
    middle = (curve.bottom * unit + course) * c.spread
    return {
        "expected": raw(op, c, expected),
        "lower": raw(op, c, op.minimum(middle - room * c.spread, expected)),
        "upper": raw(op, c, op.maximum(middle + room * c.spread, expected)),
        "score": op.where(there, op.sqrt(op.maximum(best, 0.0)) / line, float("nan")),
        "own": op.where(there, op.sqrt(op.maximum(shortest, 0.0)) / line, float("nan")),
    }


def rhythm(op: Any, p: Parameters, index: X, timestamp: X, step: X) -> X:
    """The usual course of day and week at each timestamp, in scaled units [T, M]."""
    cycles = np.array([[DAY_S], [WEEK_S]])
    table = op.constant(np.concatenate([p.daily, p.weekly]), "half")
    bins = np.stack([p.daily_bins, p.weekly_bins], 1)
    offset = np.stack([p.daily_offset, len(p.daily) + p.weekly_offset], 1)
    place = op.reshape(op.pick(op.constant(np.concatenate([bins, offset], 1), "int"), index), (-1, 1))
    n, first = op.split(place, [2, 2], -2)
    second = op.to_float(timestamp % op.constant(cycles, "int")) + op.to_float(step) * 0.5  # [2, T]
    position = second * (op.to_float(n) * op.constant(1.0 / cycles, "float")) + 0.5  # one bin ahead: never negative
    below = op.floor(position)
    part = position - below
    bin_ = op.to_int(below) + n - 1
    around = op.to_float(op.rows(table, op.stack([bin_ % n + first, (bin_ + 1) % n + first])))  # [4, T, M]
    return op.total(around * op.column(op.stack([1.0 - part, part])))


def line_of(op: Any, p: Parameters, c: Chosen, timestamp: X, k: X) -> X:
    """Where the line lies at each point [T, M]: further out at hours at which something happens on most days."""
    hours = p.habit.shape[2]
    table = p.habit.reshape(2 * len(p.steps), hours, p.metrics)
    here = op.pick(op.constant(table, "half"), c.causal * len(p.steps) + c.index)
    return op.to_float(op.rows(here, timestamp % DAY_S // (DAY_S // hours))) * k


def from_center(op: Any, c: Chosen, values: X) -> X:
    """How far values are from their usual ones: as a difference, or as the logarithm of a ratio."""
    differences = values - c.center
    if c.offset is None:
        return differences
    ratios = (op.maximum(values, 0.0) + c.offset) / c.center
    return op.where(c.offset <= 0.0, differences, op.log(ratios))


def raw(op: Any, c: Chosen, away: X) -> X:
    """The values that are so far from their usual ones, in raw units."""
    if c.offset is None:
        return away + c.center
    return op.where(c.offset <= 0.0, away + c.center, op.maximum(op.exp(away) * c.center - c.offset, 0.0))


def unit_of(op: Any, c: Chosen, course: X) -> X:
    """A usual deviation [T, M], in spreads: noise follows the level, so where the rhythm is low it is small."""
    return op.maximum(course * c.unit_slope + c.unit, LEAST_UNIT)


def deviations(op: Any, c: Chosen, course: X, unit: X, values: X) -> tuple[X, X]:
    """Values less their rhythm in usual deviations, 0 where missing, and 1.0 where observed: g, seen [T, M]."""
    there = op.observed(values)
    seen = op.to_float(there)
    scaled = (op.clip(from_center(op, c, values) / c.spread, -CLIP_SCALED, CLIP_SCALED) - course) / unit
    return op.where(there, scaled, 0.0), seen


def levels(op: Any, c: Chosen, g: X, seen: X, m: int) -> tuple[X, X]:
    """The sensor's level over days and over hours [T, M]: moving means, their outliers clipped, without sorting.

    Over days, outliers are what is large for this query. Over hours, what is large for this sensor: an outage of half
    of such a window must not move what is expected before and after it. Where hardly any of its points are left at
    the level of days, the sensor has moved, and its level with it.
    """
    span, recent = c.span, c.recent
    sums = op.running_sum(op.concat([g, seen]), 2 * m, c.count)
    total, count = op.split(op.between(sums, *span), [m, m])
    each = 1.0 / op.maximum(count, 1.0)
    long = total * each
    for _ in range(2):
        long = _refine(op, c, g, seen, long, span, each, m)
    total, points = op.split(op.between(sums, *recent), [m, m])
    near = still(op, g - long) * seen
    sums = op.running_sum(op.concat([g * near, near]), 2 * m, c.count)
    near_total, near_points = op.split(op.between(sums, *recent), [m, m])
    moved = near_points < points * LEFT
    each = 1.0 / op.maximum(op.where(moved, points, near_points), 1.0)
    level = op.where(moved, total, near_total) * each
    level = op.where(points < 1.0, long, level)
    away = g - level
    clipped = within(op, away, c.noise * FAR) * still(op, away) * seen
    level = level + op.between(op.running_sum(clipped, m, c.count), *recent) * each
    return long * (count / (count + c.prior)), level


def still(op: Any, away: X) -> X:
    """1.0 where a value has not left its level."""
    return op.to_float(op.abs(away) <= GONE)


def within(op: Any, x: X, most: X) -> X:
    """x clipped at ± most."""
    return op.minimum(op.maximum(x, -most), most)


def _refine(op: Any, c: Chosen, g: X, seen: X, level: X, span: tuple, each: X, m: int) -> X:
    """Add to a moving mean the mean deviation from it, clipped at its mean size in this query."""
    away = (g - level) * seen
    size = op.mean_rows(op.abs(away)) / op.maximum(op.mean_rows(seen), LEAST_SHARE)
    return level + op.between(op.running_sum(within(op, away, size), m, c.count), *span) * each


def residual_centers(op: Any, p: Parameters, c: Chosen, g: X, seen: X) -> list:
    """What each channel expects of g, [T, M] each: level of the week, of two hours, the autoencoder.

    Where the autoencoder does not judge, only of the rows that are answered.
    """
    long, recent = levels(op, c, g, seen, p.metrics)
    away = g - recent
    shown = (recent + within(op, away, c.noise * FAR) * still(op, away)) * seen
    first = c.first if judging(p.metrics) < CHANNELS else 0
    unit = window_unit(op, c.noise)
    return [long, recent, reconstruct(op, p, c, shown / unit, seen, first) * unit]


def widened(op: Any, c: Chosen, away: X, seen: X, m: int) -> X:
    """The noise [1, C * M] of the judging channels in this query: the training's, wider if a long query is noisier.

    away [T, C * M]. The first pass counts at most CLIP_SIZE of a deviation, so that anomalies do not widen; with
    several metrics a second one reaches noise that has grown far beyond it.
    """
    judges = judging(m)
    tau, size = (
        op.split(x, [judges * m, (CHANNELS - judges) * m])[0] if judges < CHANNELS else x for x in (c.tau, c.size)
    )
    believed = op.minimum(c.days * (1.0 / WIDEN_DAYS), 1.0)
    there = op.concat([seen] * judges)
    share = op.maximum(op.mean_rows(there), LEAST_SHARE)
    distance = op.abs(away) * there
    for again in range(1 if m == 1 else 2):
        z = op.minimum(distance / tau, CLIP_SIZE)
        ratio = op.mean_rows(z) / (share * (op.maximum(size, LEAST_SIZE) if again else size))
        tau = tau * (1.0 + op.maximum(ratio - 1.0, 0.0) * believed)
    return tau
