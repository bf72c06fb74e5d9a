"""How far out points are at several time scales, and how far they may go; it must not know what was expected."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from export.chosen import Chosen, X, between, columns
from export.parameters import CHANNELS, SCALES

FINITE = 1e30  # an energy beyond it stands for: no value of this point alone reaches the line
CLIP_JOINT = 25.0  # energy of one metric that counts at most towards the joint score
JOINT_MOST = 1.5
SHORTEST = 0  # the scale at which a point itself is seen
WIDEN_DAYS = 3.0  # a query of this length is believed when it is noisier than the training data
SETTLE_DAYS = 7.0  # and one of this length when its energy reaches further: a bad day must not excuse itself
CLIP_ENERGY = tuple(max(2.5, 30 * (3 / w) ** 0.5) ** 2 for w in SCALES)


def own_share(m: int) -> float:
    """What a metric itself adds to its score, the rest is from all of them: one of m."""
    return 1.0 / m


def judging(m: int) -> int:
    """How many of the channels judge: with several metrics the autoencoder only tells what was to be expected.

    It explains a metric by the others, which are unusual too when something happens (docs/model.md has the figures).
    """
    return CHANNELS if m == 1 else CHANNELS - 1


def own_energy(op: Any, away: X, noise: X, m: int) -> X:
    """Mean over the channels of the squared z [T, M]; away [T, C * M] from what they expect, noise [1, C * M]."""
    judges = judging(m)
    return sum_all(op.split(away * away * (1.0 / (noise * noise * float(judges))), [m] * judges))


@dataclass(frozen=True)
class Parabola:
    """The energy of a point by its g: curvature * (g - bottom)^2 + floor, [T - first, M]: the band inverts it."""

    bottom: X
    floor: X
    curvature: X  # [1, M]


def parabola(op: Any, centers: list, noise: X, m: int) -> Parabola:
    """The energies of the channels that expect `centers`, together."""
    pull = op.split(1.0 / (noise * noise * float(len(centers))), [m] * len(centers))
    curvature = sum_all(pull)
    bottom = sum_all([center * (w / curvature) for center, w in zip(centers, pull)])
    floor = sum_all([(center - bottom) * (center - bottom) * w for center, w in zip(centers, pull)])
    return Parabola(bottom, floor, curvature)


def sum_all(parts: list) -> X:
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def with_all_together(op: Any, e: X, seen: X, m: int) -> tuple[X, X]:
    """Energy and what was seen of each metric [T, M], and of several of all together beside them: [T, N] each."""
    if m == 1:
        return e, seen
    together = op.sum_last(op.minimum(e, CLIP_JOINT) * seen) * share_of_all(op, seen)
    return op.concat([e, together]), op.concat([seen, op.minimum(op.sum_last(seen), 1.0)])


def share_of_all(op: Any, seen: X) -> X:
    """What each unit of a metric's own energy is of that of all metrics together [T, 1]."""
    return 1.0 / op.maximum(op.sum_last(seen), 1.0)


def clips(m: int) -> np.ndarray:
    """Energy of a point that counts at most, at each scale, of each metric and of all together [S, N]."""
    alone = np.array(CLIP_ENERGY)
    if m == 1:
        return alone[:, None]
    shortest = np.arange(len(SCALES)) == SHORTEST  # where one metric alone can reach the line by one point
    of_each = np.where(shortest, alone, np.minimum(alone, CLIP_JOINT))
    return np.repeat(np.stack([of_each, np.full(len(SCALES), FINITE)], 1), [m, 1], 1)


def excess(op: Any, usual: X, e: X, seen: X, m: int) -> X:
    """By how much each point's clipped energy [T, N] is over a scale's usual one, [T, S * N]; 0 where not seen."""
    clipped = op.minimum(op.concat([e] * len(SCALES)), op.constant(clips(m).reshape(1, -1), "float"))
    return (clipped - usual) * op.concat([seen] * len(SCALES))


def over_windows(op: Any, c: Chosen, x: X, first: X, count: X, n: int) -> X:
    """Sums of x [count, S * N] over each scale's window around the rows from `first` on, [count - first, S, N]."""
    rows = op.column(op.arange(count - first) + first)
    sums = op.running_sum(x, len(SCALES) * n, count)
    return op.between_of_parts(sums, *between(op, rows, c.before, c.after, count), len(SCALES), n)


def settled(op: Any, c: Chosen, e: X, limit: X) -> X:
    """By how much a long query's usual energy and limits move [1, N]: metrics that changed must not drown others.

    e [T, N] energy of each point, limit [1, N] that of the shortest scale.
    """
    believed = op.minimum(c.days * (1.0 / SETTLE_DAYS), 1.0)
    ratio = op.mean_rows(op.minimum(e / limit, 1.0)) / c.reached
    return 1.0 + op.clip(ratio - 1.0, -0.5, 2.0) * believed


def judge_scales(op: Any, c: Chosen, e: X, floor: X, seen: X, line: X, m: int) -> tuple[X, X, X]:
    """The squared distance over all scales, that of the shortest alone, and the own energy at the squared line.

    [T - first, M] each. One metric: its energy over its limit, at the scale where that is largest; where the neighbours
    alone are over the line, the energy is that with them as expected. Several: a share of that and the rest from all
    metrics together, which counts at most JOINT_MOST times what the metric itself shows.
    """
    scales, n = len(SCALES), columns(m)
    usual, limit = (op.reshape(x, (scales, n)) for x in (c.usual, c.limit))
    of_all, seen_of_all = with_all_together(op, e, seen, m)
    portion = np.ones((1, 1))
    if m > 1:
        moved = settled(op, c, of_all, op.pick(limit, SHORTEST))
        usual, limit = usual * moved, limit * moved
        portion = np.array([[1.0] * m + [1.0 - own_share(m)]])
    of_sum = op.constant(portion / np.array(SCALES, float)[:, None], "float") / limit
    at_rest = usual / limit * op.constant(portion, "float")
    start = op.maximum(c.first - max(SCALES), 0)  # what lies further back is in no window
    resting = op.reshape(usual, (1, scales * n))
    over = excess(op, resting, op.rows_from(of_all, start), op.rows_from(seen_of_all, start), m)
    level = over_windows(op, c, over, c.first - start, c.count - start, n) * of_sum + at_rest
    if m == 1:
        over = op.split_last_axis(op.rows_from(over, c.first - start), scales, n)
        reach = reaching(op, floor, level, over + usual, of_sum, line)
    else:
        level, joint = op.split(level, [m, 1])
        level = level * own_share(m) + op.minimum(joint, level * ((1.0 - own_share(m)) * JOINT_MOST))
        reach = op.maximum(lasting(op, op.pick(limit, SHORTEST), line, m), floor)
    return op.most_of_scales(level), op.scale(level, SHORTEST), reach


def reaching(op: Any, floor: X, level: X, mine: X, weight: X, line: X) -> X:
    """The energy [A, 1] of a point of one metric at which it reaches the squared line, all others as they are.

    level [A, S, 1] of the windows, mine [A, S, 1] the part of the point itself, weight [S, 1] of its energy in them.
    """
    beside = op.beside_scales(line)
    clip = op.constant(clips(1), "float")
    of_scales = (beside - level + mine * weight) / weight, beside / weight
    free, alone = (op.least_of_scales(op.where(x < clip, x, float("inf"))) for x in of_scales)
    return op.where(floor < free, free, op.maximum(alone, floor))


def lasting(op: Any, limit: X, line: X, m: int) -> X:
    """The own energy [A, M] at which the squared line is reached where it lasts and all metrics go along.

    What a metric may do alone and for one point is no band to look at: a hundred times its traffic.
    """
    limit, joint_limit = op.split(limit, [m, 1])
    own = 1.0 / limit
    share = own_share(m)
    joint = op.minimum((1.0 - share) / joint_limit, own * ((1.0 - share) * JOINT_MOST))
    return line / (own * share + joint)
