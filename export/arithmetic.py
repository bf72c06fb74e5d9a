"""The detector's arithmetic from raw values to score and band, written once for torch and for the ONNX file.

It knows only the operations it is handed (`TorchOps` computes, `OnnxOps` writes a graph), so training and serving
cannot drift apart; it must not know how its parameters were found. Rows are points, columns metrics; QUALITY.md
has the design in words, docs/model.md what each choice is worth.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from export.parameters import ASKED, CHANNELS, HIDDEN, PHASES, SCALES, STRIDE, WINDOW, Parameters

X = Any  # a torch Tensor or an ONNX Value

DAY_S, WEEK_S = 86_400, 604_800
CLIP_SCALED = 200.0  # no value is further than this from its usual one, in usual spreads
LEAST_UNIT = 0.1  # of a usual deviation: the quietest time of a day is not trusted to be quieter
CLIP_WINDOW = 8.0  # what the autoencoder is shown of a deviation
CLIP_SIZE = 3.0  # z that counts at most towards the size of a query's residual
CLIP_JOINT = 25.0  # energy of one metric that counts at most towards the joint score
OWN_SHARE = 0.1  # of several metrics: what a metric itself adds to the joint score
JOINT_MOST = 1.5
PRIOR_DAYS = 0.1  # the sensor's usual level is worth this much data
WIDEN_DAYS = 3.0  # a query of this length is believed when it is noisier than the training data
CLIP_ENERGY = tuple(max(2.5, 30 * (3 / w) ** 0.5) ** 2 for w in SCALES)


@dataclass(frozen=True)
class Chosen:
    """What holds for one granularity, mode and query length: a row of each of the model's tables."""

    index: X  # of the granularity
    count: X  # points of the query
    causal: X
    days: X
    prior: X  # points that the usual level is worth
    center: X  # [1, M]
    spread: X
    unit: X
    unit_slope: X
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
    rows = np.concatenate([p.center, p.spread, p.unit, p.unit_slope, p.points_per_day[:, None]], 1)
    row = op.reshape(op.pick(op.constant(rows, "float"), index), (1, -1))
    center, spread, unit, unit_slope, per_day = op.split(row, [m] * 4 + [1])
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
        days=op.to_float(count) / per_day, prior=PRIOR_DAYS * per_day, center=center, spread=spread,
        unit=unit, unit_slope=unit_slope,
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
        values = op.constant(table, "float")
        lower, upper = op.rows(values, bin_ % n + first), op.rows(values, (bin_ + 1) % n + first)
        here = lower + (upper - lower) * part
        total = here if total is None else total + here
    return total


def unit_of(op: Any, c: Chosen, course: X) -> X:
    """A usual deviation [T, M], in spreads: noise follows the level, so where the rhythm is low it is small."""
    return op.maximum(course * c.unit_slope + c.unit, LEAST_UNIT)


def deviations(op: Any, c: Chosen, course: X, unit: X, values: X) -> tuple[X, X]:
    """Values less their rhythm in usual deviations, 0 where missing, and 1.0 where observed: g, seen [T, M]."""
    there = op.observed(values)
    seen = op.to_float(there)
    scaled = (op.clip((values - c.center) / c.spread, -CLIP_SCALED, CLIP_SCALED) - course) / unit
    return op.where(there, scaled, 0.0), seen


def levels(op: Any, c: Chosen, g: X, seen: X, m: int) -> tuple[X, X]:
    """The sensor's level over days and over hours [T, M]: moving means, their outliers clipped, without sorting."""
    sums = op.running_sum(op.concat([g, seen]), 2 * m, c.count)
    found = []
    for span, rounds in zip(c.windows[:2], (2, 1)):
        total, count = op.split(op.between(sums, *span), [m, m])
        each = 1.0 / op.maximum(count, 1.0)
        level = total * each
        for _ in range(rounds):
            level = _refine(op, c, g, seen, level, span, each, m)
        found.append((level, count))
    (long, count), (recent, _) = found
    return long * (count / (count + c.prior)), recent


def _refine(op: Any, c: Chosen, g: X, seen: X, level: X, span: tuple, each: X, m: int) -> X:
    """Add to a moving mean the mean deviation from it, clipped at its mean size."""
    away = (g - level) * seen
    size = op.between(op.running_sum(op.abs(away), m, c.count), *span) * each
    clipped = op.minimum(op.maximum(away, -size), size)
    return level + op.between(op.running_sum(clipped, m, c.count), *span) * each


def patterns() -> np.ndarray:
    """Which places of a window are shown in each mode and phase, [2, 4, W].

    Whole: two places in eight are hidden, in four phases. Causal: a span of four in the later half, and all after it.
    """
    place, phase = np.arange(WINDOW), np.arange(PHASES)[:, None]
    whole = (place // 2) % PHASES != phase
    live = place < WINDOW // 2 + HIDDEN * phase
    return np.stack([whole, live]).astype(np.float32)


def asked_places() -> np.ndarray:
    """The hidden places that are read from a window in each mode and phase, [2, 4, A]."""
    place, phase = np.arange(WINDOW), np.arange(PHASES)[:, None]
    whole = np.stack([place[(place // 2) % PHASES == i] for i in range(PHASES)])
    live = WINDOW // 2 + HIDDEN * phase + np.arange(ASKED) % HIDDEN
    return np.stack([whole, live])


def reconstruct(op: Any, p: Parameters, c: Chosen, g: X, seen: X, first: X = 0) -> X:
    """The autoencoder's idea of each point from row `first` on, from the others around it (before it, in causal mode).

    Windows at half their length, four times each with other places hidden. Whole: each point is hidden once in two
    windows, which are weighted by its distance from their edges. Causal: once, in the window whose later half has it.
    Result [T - first, M].
    """
    m, live = p.metrics, c.causal
    skipped = first // STRIDE  # windows that hold no such point
    tiles = (c.count - 1) // STRIDE + 2 - skipped
    start = STRIDE * (op.arange(tiles) + skipped) - STRIDE
    row = op.column(start) + op.arange(WINDOW) + 1
    row = op.where(row <= c.count, op.maximum(row, 0), 0)  # row 0 is all missing
    padded = op.zero_row_first(op.concat([g, seen]), 2 * m)
    cut = op.swap(op.split_rows(op.rows(padded, op.reshape(row, (-1,))), WINDOW, 2 * m))  # [U, 2M, W]
    x, v = (op.merge_windows(part) for part in op.split(cut, [m, m], -2))  # [U*M, W]
    shown = patterns()
    look = op.pick(op.constant(np.swapaxes(shown, 1, 2), "float"), live)  # [W, 4]
    mean = op.phases(op.matmul(x, look) / op.maximum(op.matmul(v, look), 1.0))  # [4, U*M, 1]
    centred = op.clip(op.spread_over_phases(x) - mean, -CLIP_WINDOW, CLIP_WINDOW) * op.spread_over_phases(v)
    see, mask = (  # what is hidden in a phase has no weight in it: [4, W, H]
        op.pick(op.constant(shown[..., None] * p.weights[name], "float"), live) for name in ("see", "see_mask")
    )
    width = p.weights["see"].shape[1]
    alone = op.matmul(centred, see) + op.matmul(op.spread_over_phases(v), mask)
    weights = {name: op.constant(w, "float") for name, w in p.weights.items() if name.startswith("mix")}
    embedding = op.pick(op.constant(p.embedding, "float"), c.index)
    h = mix(op, weights, op.split_metrics(alone, m, width) + embedding, m, width)  # [4, U, M, H]
    places = asked_places()
    show = np.moveaxis(p.weights["show"][:, places], 0, 2)  # [2, 4, H, A]
    told = op.matmul(op.merge_metrics(h, width), op.pick(op.constant(show, "float"), live))  # [4, U*M, A]
    flat = op.rows_of_places(told, m, ASKED)  # [4*U*A, M]
    mean = op.rows_of_places(mean, m, 1)  # [4*U, M]
    bias = op.pick(op.constant(p.weights["show_bias"][places].reshape(2, -1, 1), "float"), live)  # [4*A, 1]
    t = op.arange(c.count - first) + first
    tile, inside = t // STRIDE - skipped, t % STRIDE
    phase = (1 - live) * ((inside // 2) % PHASES) + live * (inside // HIDDEN)
    slot = (1 - live) * ((inside // 8) * 2 + inside % 2) + live * (inside % HIDDEN)
    half = (1 - live) * (ASKED // 2)
    older = phase * tiles + tile  # the window in whose later half the point is

    def read(window: X, place: X) -> X:
        return op.rows(flat, window * ASKED + place) + op.rows(mean, window) + op.rows(bias, phase * ASKED + place)

    newer, second = read(older + (1 - live), slot), read(older, slot + half)
    weight = op.column(op.to_float(inside + 1) * (1.0 / (STRIDE + 1)))
    return second + (newer - second) * weight


def encode(op: Any, weights: Any, embedding: X, x: X, v: X, m: int, width: int) -> tuple[X, X]:
    """What the network makes of windows: features [N, M, H] and the mean of what is visible [N, M, 1].

    x, v [N, M, W]: values, and 1.0 where visible. embedding [N, M, H]: of the granularity's metrics. It is what
    `reconstruct` computes for its own windows, for windows with any places hidden, as training has them.
    """
    mean = op.sum_last(x * v) / op.maximum(op.sum_last(v), 1.0)
    centred = op.clip(x - mean, -CLIP_WINDOW, CLIP_WINDOW) * v
    first = op.matmul(centred, weights["see"]) + op.matmul(v, weights["see_mask"]) + embedding
    return mix(op, weights, first, m, width), mean


def mix(op: Any, weights: Any, first: X, m: int, width: int) -> X:
    """The network's middle: all metrics of a window through the bottleneck, added to what each said alone."""
    h = op.activation(first)
    mixed = op.activation(op.matmul(op.merge_last(h, m * width), weights["mix_in"]) + weights["mix_in_bias"])
    return h + op.split_last(op.matmul(mixed, weights["mix_out"]) + weights["mix_out_bias"], m, width)


def residual_centers(op: Any, p: Parameters, c: Chosen, g: X, seen: X) -> list:
    """What each channel expects of g, [T, M] each: level of the week, of two hours, the autoencoder.

    Where the autoencoder does not judge, only of the rows that are answered.
    """
    long, recent = levels(op, c, g, seen, p.metrics)
    return [long, recent, reconstruct(op, p, c, g, seen, c.first if judging(p.metrics) < CHANNELS else 0)]


def judging(m: int) -> int:
    """How many of the channels judge: with several metrics the autoencoder only tells what was to be expected.

    It explains a metric by the others, which are unusual too when something happens (docs/model.md has the figures).
    """
    return CHANNELS if m == 1 else CHANNELS - 1


def widened(op: Any, c: Chosen, g: X, seen: X, centers: list) -> list:
    """The noise [1, M] of each channel in this query: the training's, wider if a long query is noisier."""
    believed = op.minimum(c.days * (1.0 / WIDEN_DAYS), 1.0)
    share = op.maximum(op.mean_rows(seen), 1e-6)
    result = []
    for center, tau, size in zip(centers, c.tau, c.size):
        z = op.minimum(op.abs(g - center) / tau, CLIP_SIZE) * seen
        ratio = op.mean_rows(z) / (share * size)
        result.append(tau * (1.0 + op.maximum(ratio - 1.0, 0.0) * believed))
    return result


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


def judge_scales(op: Any, c: Chosen, e: Energy, seen: X, k: X, m: int) -> tuple[X, X, X]:
    """The squared distance over all scales, that of the shortest alone, and the own energy that
    reaches the line k [T - first, M]; where the neighbours alone are over it, the same with them as expected.

    One metric: its energy over its limit, at the scale where that is largest. Several: OWN_SHARE of that and the rest
    from all metrics together, which counts at most JOINT_MOST times what the metric itself shows.
    """
    line = k * k
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
    return best, shortest, op.where(floor < reach, reach, op.maximum(alone, floor))


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
    e = energy(op, g, judges, widened(op, c, g, seen, judges))
    best, shortest, reach = judge_scales(op, c, e, seen, k, m)
    unit, course, bottom, floor, values = (op.rows_from(x, first) for x in (unit, course, e.bottom, e.floor, values))
    idea = centers[2] if judging(m) < CHANNELS else op.rows_from(centers[2], first)
    room = op.sqrt(op.maximum(reach - floor, 0.0) / e.curvature) * unit
    there = op.observed(values)
    expected = (idea * unit + course) * c.spread + c.center
    middle = (bottom * unit + course) * c.spread + c.center
    return {
        "expected": expected,
        "lower": op.minimum(middle - room * c.spread, expected),
        "upper": op.maximum(middle + room * c.spread, expected),
        "score": op.where(there, op.sqrt(op.maximum(best, 0.0)) / k, float("nan")),
        "own": op.where(there, op.sqrt(op.maximum(shortest, 0.0)) / k, float("nan")),
    }
