"""How far out points are at several time scales, and how far they may go; it must not know what was expected."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from export.chosen import Chosen, X, between, columns
from export.parameters import CHANNELS, SCALES

FINITE = 1e30  # an energy beyond it stands for: no value of this point alone reaches the line
CLIP_JOINT = 25.0  # energy of one metric that counts at most towards the joint score
OWN_SHARE = 0.1  # of several metrics: what a metric itself adds to the joint score
JOINT_MOST = 1.5
MOST_ROWS = 512  # of a query that tell how far its energy reaches
WIDEN_DAYS = 3.0  # a query of this length is believed when it differs from the training data
CLIP_ENERGY = tuple(max(2.5, 30 * (3 / w) ** 0.5) ** 2 for w in SCALES)


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


def joint_energy(op: Any, e: X, seen: X) -> tuple[X, X]:
    """Energy of all metrics together [T, 1], and how much of it each unit of a metric's own is [T, 1]."""
    share = 1.0 / op.maximum(op.sum_last(seen), 1.0)
    return op.sum_last(op.minimum(e, CLIP_JOINT) * seen) * share, share


def excess(op: Any, c: Chosen, e: X, seen: X, together: X, m: int) -> X:
    """By how much each point's energy is more than usual at each scale, clipped, [T, S * N]; nothing where not seen.

    The columns of a scale are its metrics and, of several, all of them together.
    """
    if m > 1:
        e, seen = op.concat([e, together]), op.concat([seen, op.minimum(op.sum_last(seen), 1.0)])
    most = np.array([[clip_of(i, m)] * m + [FINITE] * (m > 1) for i in range(len(SCALES))])
    clipped = op.minimum(op.concat([e] * len(SCALES)), op.constant(most.reshape(1, -1), "float"))
    return (clipped - c.usual) * op.concat([seen] * len(SCALES))


def over_windows(op: Any, c: Chosen, sums: Any, t: X, n: int) -> X:
    """Sums over each scale's window around the rows t, [len(t), S, N], from running sums."""
    low, high = between(op, op.column(t), c.before, c.after, c.count)
    return op.between_of_parts(sums, low, high, len(SCALES), n)


def settled(op: Any, c: Chosen, sums: Any, rate: X, usual: X, reached: X, n: int) -> X:
    """By how much a long query's limits move [S, N] to what it reaches: metrics that changed must not drown others.

    As many rows as MOST_ROWS tell what is reached; rate, usual [S, N]: of a window's sum, and what to add to it.
    """
    rows = op.every(c.count, c.count // MOST_ROWS + 1)
    here = op.minimum(over_windows(op, c, sums, rows, n) * rate + usual, 1.0)
    believed = op.minimum(c.days * (1.0 / WIDEN_DAYS), 1.0)
    return 1.0 + op.clip(op.mean_of_rows(here) / reached - 1.0, -0.5, 2.0) * believed


def clip_of(scale: int, m: int) -> float:
    """Energy of a point that counts at most at a scale."""
    if m == 1:
        return CLIP_ENERGY[scale]
    return min(CLIP_ENERGY[scale], CLIP_JOINT * (SCALES[0] if scale == 0 else 1))  # one point can reach the line


def judge_scales(op: Any, c: Chosen, e: X, floor: X, seen: X, line: X, m: int) -> tuple[X, X, X]:
    """The squared distance over all scales, that of the shortest alone, and the own energy that
    reaches the squared line [T - first, M]; where the neighbours alone are over it, the same with them as expected.

    One metric: its energy over its limit, at the scale where that is largest. Several: OWN_SHARE of that and the rest
    from all metrics together, which counts at most JOINT_MOST times what the metric itself shows.
    """
    scales, n = len(SCALES), columns(m)
    together, share = joint_energy(op, e, seen) if m > 1 else (seen, seen)
    over = excess(op, c, e, seen, together, m)
    sums = op.running_sum(over, scales * n, c.count)
    usual, limit, reached = (op.reshape(x, (scales, n)) for x in (c.usual, c.limit, c.reached))
    of_sum = 1.0 / (limit * op.constant(np.array(SCALES, float)[:, None], "float"))
    at_rest = usual / limit
    if m > 1:
        portion = op.constant(np.array([[1.0] * m + [1.0 - OWN_SHARE]]), "float")
        moved = portion / settled(op, c, sums, of_sum, at_rest, reached, n)
        of_sum, at_rest = of_sum * moved, at_rest * moved
    level = over_windows(op, c, sums, op.arange(c.count - c.first) + c.first, n) * of_sum + at_rest
    over = op.split_last_axis(op.rows_from(over, c.first), scales, n)
    line_, line = line, op.beside_scales(line)
    clip = op.constant(np.array([[clip_of(i, m)] for i in range(scales)]), "float")
    if m == 1:
        weight = of_sum  # of this point's own energy in the level
        free, alone = (line - level + (over + usual) * weight) / weight, line / weight
    else:
        total, seen, share = (op.beside_scales(op.rows_from(x, c.first)) for x in (e, seen, share))
        level, joint = op.split(level, [m, 1])
        weight, joint_weight = op.split(of_sum, [m, 1])
        usual, over = op.split(usual, [m, 1])[0], op.split(over, [m, 1])[0]
        joint_weight = share * joint_weight
        others = level - (over + usual) * weight
        mine_joint = op.minimum(total, CLIP_JOINT) * seen * joint_weight
        both = weight * OWN_SHARE + joint_weight
        most = OWN_SHARE + (1.0 - OWN_SHARE) * JOINT_MOST
        free = (line - others * OWN_SHARE - joint + mine_joint) / both
        free, alone = op.maximum(free, (line - others * most) / (weight * most)), line / both
        level = level * OWN_SHARE + op.minimum(joint, level * ((1.0 - OWN_SHARE) * JOINT_MOST))
    free, alone = (op.least_of_scales(op.where(x < clip, x, float("inf"))) for x in (free, alone))
    reach = op.where(floor < free, free, op.maximum(alone, floor))
    if m > 1:
        reach = op.where(reach < FINITE, reach, op.maximum(lasting(op, c, line_, m), floor))
    return op.most_of_scales(level), op.scale(level, 0), reach


def lasting(op: Any, c: Chosen, line: X, m: int) -> X:
    """The own energy [T - first, M] at which the squared line is reached where it lasts and all metrics go along.

    Of several metrics, one that leaves alone for one point may go any way: this is how far they may go together.
    """
    limit, joint_limit = op.split(op.split(c.limit, [m + 1] * len(SCALES))[0], [m, 1])
    own = 1.0 / limit
    joint = op.minimum((1.0 - OWN_SHARE) / joint_limit, own * ((1.0 - OWN_SHARE) * JOINT_MOST))
    return line / (own * OWN_SHARE + joint)
