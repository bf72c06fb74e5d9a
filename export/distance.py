"""How far out points are at several time scales, and how far they may go; it must not know what was expected."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from export.chosen import Chosen, X
from export.parameters import CHANNELS, SCALES

FINITE = 1e30  # an energy beyond it stands for: no value of this point alone reaches the line
CLIP_JOINT = 25.0  # energy of one metric that counts at most towards the joint score
OWN_SHARE = 0.1  # of several metrics: what a metric itself adds to the joint score
JOINT_MOST = 1.5
WIDEN_DAYS = 3.0  # a query of this length is believed when it differs from the training data
CLIP_ENERGY = tuple(max(2.5, 30 * (3 / w) ** 0.5) ** 2 for w in SCALES)


def judging(m: int) -> int:
    """How many of the channels judge: with several metrics the autoencoder only tells what was to be expected.

    It explains a metric by the others, which are unusual too when something happens (docs/model.md has the figures).
    """
    return CHANNELS if m == 1 else CHANNELS - 1


@dataclass(frozen=True)
class Energy:
    """A point's squared deviation as a parabola over g: total = curvature * ((g - bottom)^2) + floor, [T, M]."""

    total: X
    bottom: X
    floor: X
    curvature: X  # [1, M]


def energy(op: Any, g: X, centers: list, noise: list) -> Energy:
    """Mean over the channels of the squared z, kept as the parabola that the band inverts."""
    pull = [1.0 / (tau * tau * float(len(noise))) for tau in noise]
    curvature = sum_all(pull)
    bottom = sum_all([center * (w / curvature) for center, w in zip(centers, pull)])
    floor = sum_all([(center - bottom) * (center - bottom) * w for center, w in zip(centers, pull)])
    away = g - bottom
    return Energy(away * away * curvature + floor, bottom, floor, curvature)


def sum_all(parts: list) -> X:
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def joint_energy(op: Any, e: X, seen: X) -> tuple[X, X]:
    """Energy of all metrics together [T, 1], and how much of it each unit of a metric's own is [T, 1]."""
    share = 1.0 / op.maximum(op.sum_last(seen), 1.0)
    return op.sum_last(op.minimum(e, CLIP_JOINT) * seen) * share, share


def scale_energies(op: Any, c: Chosen, e: X, seen: X, together: X, m: int) -> list:
    """Mean energy over each scale's window: own [T, M], and of all metrics together [T, 1].

    It is summed as what differs from the usual, so that where nothing was seen nothing differs. The running sums of
    all scales are taken at once.
    """
    width = m + (m > 1)
    some = op.minimum(op.sum_last(seen), 1.0)
    parts = []
    for i in range(len(SCALES)):
        parts.append((op.minimum(e, clip_of(i, m)) - c.usual[i]) * seen)
        if m > 1:
            parts.append((together - c.joint_usual[i]) * some)
    sums = op.split(op.running_sum(op.concat(parts), len(SCALES) * width, c.count), [width] * len(SCALES))
    found = []
    for i, points in enumerate(SCALES):
        mean = op.between(sums[i], *c.windows[2 + i]) * (1.0 / points)
        own, joint = (mean, together) if m == 1 else op.split(mean, [m, 1])
        found.append((own + c.usual[i], joint if m == 1 else joint + c.joint_usual[i]))
    return found


def settled(op: Any, c: Chosen, energy_: X, limit: X, reached: X) -> X:
    """The limit of several metrics, moved to what a long query reaches: metrics that changed must not drown others."""
    believed = op.minimum(c.days * (1.0 / WIDEN_DAYS), 1.0)
    ratio = op.mean_rows(op.minimum(energy_ / limit, 1.0)) / reached
    return limit * (1.0 + op.clip(ratio - 1.0, -0.5, 2.0) * believed)


def clip_of(scale: int, m: int) -> float:
    """Energy of a point that counts at most at a scale."""
    if m == 1:
        return CLIP_ENERGY[scale]
    return min(CLIP_ENERGY[scale], CLIP_JOINT * (SCALES[0] if scale == 0 else 1))  # one point can reach the line


def judge_scales(op: Any, c: Chosen, e: Energy, seen: X, line: X, m: int) -> tuple[X, X, X]:
    """The squared distance over all scales, that of the shortest alone, and the own energy that
    reaches the squared line [T - first, M]; where the neighbours alone are over it, the same with them as expected.

    One metric: its energy over its limit, at the scale where that is largest. Several: OWN_SHARE of that and the rest
    from all metrics together, which counts at most JOINT_MOST times what the metric itself shows.
    """
    together, share = joint_energy(op, e.total, seen) if m > 1 else (seen, seen)
    best = shortest = reach = alone = None
    energies = scale_energies(op, c, e.total, seen, together, m)
    total, seen, share = (op.rows_from(x, c.first) for x in (e.total, seen, share))
    for i, (width, (own, joint)) in enumerate(zip(SCALES, energies)):
        clip, usual, limit = clip_of(i, m), c.usual[i], c.limit[i]
        if m > 1:
            limit = settled(op, c, own, limit, c.reached[i])
            joint_limit = settled(op, c, joint, c.joint_limit[i], c.joint_reached[i]) * (1.0 / (1.0 - OWN_SHARE))
        own, joint = op.rows_from(own, c.first), op.rows_from(joint, c.first)
        level = own / limit
        weight = 1.0 / (limit * float(width))  # of this point's own energy in it
        mine = ((op.minimum(total, clip) - usual) * seen + usual) * weight
        if m == 1:
            free, free_alone = (line - level + mine) / weight, line / weight
        else:
            most = OWN_SHARE + (1.0 - OWN_SHARE) * JOINT_MOST
            joint_level = joint / joint_limit
            joint_weight = share / (joint_limit * float(width))
            mine_joint = op.minimum(total, CLIP_JOINT) * seen * joint_weight
            others = level - mine
            free_both = (line - others * OWN_SHARE - joint_level + mine_joint) / (weight * OWN_SHARE + joint_weight)
            free = op.maximum(free_both, (line - others * most) / (weight * most))
            free_alone = line / (weight * OWN_SHARE + joint_weight)
            level = level * OWN_SHARE + op.minimum(joint_level, level * ((1.0 - OWN_SHARE) * JOINT_MOST))
        free, free_alone = (op.where(energy_ < clip, energy_, float("inf")) for energy_ in (free, free_alone))
        shortest = level if shortest is None else shortest
        best = level if best is None else op.maximum(best, level)
        reach = free if reach is None else op.minimum(reach, free)
        alone = free_alone if alone is None else op.minimum(alone, free_alone)
    floor = op.rows_from(e.floor, c.first)
    reach = op.where(floor < reach, reach, op.maximum(alone, floor))
    return best, shortest, reach if m == 1 else op.where(reach < FINITE, reach, op.maximum(lasting(op, c, line), floor))


def lasting(op: Any, c: Chosen, line: X) -> X:
    """The own energy [T - first, M] at which the squared line is reached where it lasts and all metrics go along.

    Of several metrics, one that leaves alone for one point may go any way: this is how far they may go together.
    """
    own = 1.0 / c.limit[0]
    joint = op.minimum((1.0 - OWN_SHARE) / c.joint_limit[0], own * ((1.0 - OWN_SHARE) * JOINT_MOST))
    return line / (own * OWN_SHARE + joint)
