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
from export.distance import WIDEN_DAYS, energy, judge_scales, judging
from export.parameters import CHANNELS, Parameters

DAY_S, WEEK_S = 86_400, 604_800
CLIP_SCALED = 200.0  # no value is further than this from its usual one, in usual spreads
LEAST_UNIT = 0.1  # of a usual deviation: the quietest time of a day is not trusted to be quieter
FAR = 6.0  # usual noises, beyond which a deviation says nothing of its neighbours
GONE = 9.0  # usual deviations, beyond which a value has left its level
LEFT = 0.2  # of the points of two hours: fewer that are still at the level of days mean that the level has moved
CLIP_SIZE = 3.0  # z that counts at most towards the size of a query's residual
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
    judges = centers[: judging(m)]
    e = energy(op, g, judges, widened(op, c, g, seen, judges, 1 if m == 1 else 2))
    line = op.rows_from(line_of(op, p, c, timestamp, k), first)
    best, shortest, reach = judge_scales(op, c, e, seen, line * line, m)
    unit, course, bottom, floor, values = (op.rows_from(x, first) for x in (unit, course, e.bottom, e.floor, values))
    idea = centers[2] if judging(m) < CHANNELS else op.rows_from(centers[2], first)
    room = op.sqrt(op.maximum(reach - floor, 0.0) / e.curvature) * unit
    there = op.observed(values)
    expected = (idea * unit + course) * c.spread
    middle = (bottom * unit + course) * c.spread
    return {
        "expected": raw(op, c, expected),
        "lower": raw(op, c, op.minimum(middle - room * c.spread, expected)),
        "upper": raw(op, c, op.maximum(middle + room * c.spread, expected)),
        "score": op.where(there, op.sqrt(op.maximum(best, 0.0)) / line, float("nan")),
        "own": op.where(there, op.sqrt(op.maximum(shortest, 0.0)) / line, float("nan")),
    }


def rhythm(op: Any, p: Parameters, index: X, timestamp: X, step: X) -> X:
    """The usual course of day and week at each timestamp, in scaled units [T, M]."""
    total = None
    for cycle_s, table, bins, offset in (
        (DAY_S, p.daily, p.daily_bins, p.daily_offset),
        (WEEK_S, p.weekly, p.weekly_bins, p.weekly_offset),
    ):
        place = op.pick(op.constant(np.stack([bins, offset], 1), "int"), index)
        n, first = op.pick(place, 0), op.pick(place, 1)
        second = op.to_float(timestamp % cycle_s) + op.to_float(step) * 0.5
        position = second * op.to_float(n) * (1.0 / cycle_s) + 0.5  # one bin ahead: never negative
        below = op.floor(position)
        part = op.column(position - below)
        bin_ = op.to_int(below) + n - 1
        values = op.constant(table, "half")
        lower, upper = (op.to_float(op.rows(values, at % n + first)) for at in (bin_, bin_ + 1))
        here = lower + (upper - lower) * part
        total = here if total is None else total + here
    return total


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
    span, recent = c.windows[:2]
    sums, counts = op.split(op.running_sum(op.concat([g, seen]), 2 * m, c.count), [m, m])
    count = op.between(counts, *span)
    each = 1.0 / op.maximum(count, 1.0)
    long = op.between(sums, *span) * each
    for _ in range(2):
        long = _refine(op, c, g, seen, long, span, each, m)
    all_, points = op.between(sums, *recent), op.between(counts, *recent)
    near = still(op, g - long) * seen
    sums, counts = op.split(op.running_sum(op.concat([g * near, near]), 2 * m, c.count), [m, m])
    near_sum, near_points = op.between(sums, *recent), op.between(counts, *recent)
    moved = near_points < points * LEFT
    each = 1.0 / op.maximum(op.where(moved, points, near_points), 1.0)
    level = op.where(moved, all_, near_sum) * each
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
    """Add to a moving mean the mean deviation from it, clipped at its mean size."""
    away = (g - level) * seen
    size = op.between(op.running_sum(op.abs(away), m, c.count), *span) * each
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


def widened(op: Any, c: Chosen, g: X, seen: X, centers: list, passes: int) -> list:
    """The noise [1, M] of each channel in this query: the training's, wider if a long query is noisier.

    The first pass counts at most CLIP_SIZE of a deviation, so that anomalies do not widen; a second one reaches noise
    that has grown far beyond it.
    """
    believed = op.minimum(c.days * (1.0 / WIDEN_DAYS), 1.0)
    share = op.maximum(op.mean_rows(seen), 1e-6)
    result = []
    for center, tau, size in zip(centers, c.tau, c.size):
        for again in range(passes):
            z = op.minimum(op.abs(g - center) / tau, CLIP_SIZE) * seen
            ratio = op.mean_rows(z) / (share * (op.maximum(size, LEAST_SIZE) if again else size))
            tau = tau * (1.0 + op.maximum(ratio - 1.0, 0.0) * believed)
        result.append(tau)
    return result
