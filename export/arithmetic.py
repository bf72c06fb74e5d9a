"""The detector's arithmetic from raw values to score and band, written once for torch and for the ONNX file.

It knows only the operations it is handed (`TorchOps` computes, `OnnxOps` writes a graph), so training and serving
cannot drift apart; it must not know how its parameters were found. Rows are points, columns metrics; QUALITY.md
has the design in words, docs/model.md what each choice is worth.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from export.parameters import CHANNELS, HIDDEN, SCALES, STRIDE, WINDOW, Parameters

X = Any  # a torch Tensor or an ONNX Value

DAY_S, WEEK_S = 86_400, 604_800
CLIP_SCALED = 200.0  # no value is further than this from its usual one, in usual spreads
CLIP_WINDOW = 8.0  # what the autoencoder is shown of a deviation
CLIP_SIZE = 3.0  # z that counts at most towards the size of a query's residual
CLIP_JOINT = 25.0  # energy of one metric that counts at most towards the joint score
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
    recent: X  # points
    level: X
    tau: X  # [1, C*M]
    size: X  # [1, C*M]
    usual: X  # [1, S*M]
    limit: X
    joint_usual: X  # [1, S]
    joint_limit: X


def choose(op: Any, p: Parameters, step: X, count: X, causal: X) -> Chosen:
    """Look up the tables' rows; between the lengths that were measured, interpolate over the logarithm."""
    g, m = len(p.steps), p.metrics
    index = op.index_of(step, p.steps)
    whole = op.constant(np.stack([p.recent_points, p.level_points], 1), "int")
    points = op.pick(whole, index)
    lengths = p.log_points.shape[1]
    rows = np.concatenate([p.center, p.spread, p.points_per_day[:, None]], 1)
    row = op.reshape(op.pick(op.constant(rows, "float"), index), (1, -1))
    tables = [p.tau, p.size, p.usual, p.limit, p.joint_usual, p.joint_limit]
    stacked = np.concatenate([t.reshape(2 * g, lengths, -1) for t in tables], 2)
    table = op.pick(op.constant(stacked, "float"), causal * g + index)
    here = op.matmul(_between_lengths(op, p, index, count), table)
    cuts = np.cumsum([0] + [t.reshape(2 * g, lengths, -1).shape[2] for t in tables])
    tau, size, usual, limit, joint_usual, joint_limit = (
        op.columns(here, int(a), int(b)) for a, b in zip(cuts, cuts[1:])
    )
    per_day = op.columns(row, 2 * m, 2 * m + 1)
    return Chosen(
        index=index, count=count, causal=causal,
        days=op.to_float(count) / per_day, prior=PRIOR_DAYS * per_day,
        center=op.columns(row, 0, m), spread=op.columns(row, m, 2 * m),
        recent=op.pick(points, 0), level=op.pick(points, 1),
        tau=tau, size=size, usual=usual, limit=limit, joint_usual=joint_usual, joint_limit=joint_limit,
    )  # fmt: skip


def _between_lengths(op: Any, p: Parameters, index: X, count: X) -> X:
    """Weights [1, L] of the measured lengths, of which two neighbours are not 0."""
    lengths = p.log_points.shape[1]
    if lengths == 1:
        return op.constant(np.ones((1, 1)), "float")
    gaps = np.maximum(np.diff(p.log_points, axis=1), 1e-6)
    both = op.pick(op.constant(np.concatenate([p.log_points[:, :-1], gaps], 1), "float"), index)
    both = op.reshape(both, (1, -1))
    low, gap = op.columns(both, 0, lengths - 1), op.columns(both, lengths - 1, 2 * lengths - 2)
    at = op.sum_last(op.clip((op.log(op.to_float(count)) - low) / gap, 0.0, 1.0))
    away = op.abs(op.constant(np.arange(lengths)[None], "float") - at)
    return op.maximum(1.0 - away, 0.0)


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


def deviations(op: Any, c: Chosen, usual_course: X, values: X) -> tuple[X, X]:
    """Values less their rhythm in scaled units, 0 where missing, and 1.0 where observed: g, seen [T, M]."""
    there = op.observed(values)
    seen = op.to_float(there)
    scaled = op.clip((values - c.center) / c.spread, -CLIP_SCALED, CLIP_SCALED) - usual_course
    return op.where(there, scaled, 0.0), seen


def window(op: Any, c: Chosen, width: X, itself: bool) -> tuple[X, X]:
    """First row, and row after the last, of each point's window: centred, or what came before in causal mode."""
    t = op.arange(c.count)
    half = width // 2
    live = c.causal
    before = half + live * (width - half - (1 if itself else 0))
    after = (half + 1) * (1 - live) + live * (1 if itself else 0)
    return op.maximum(t - before, 0), op.minimum(t + after, c.count)


def levels(op: Any, c: Chosen, g: X, seen: X, m: int) -> tuple[X, X]:
    """The sensor's level over days and over hours [T, M]: moving means, their outliers clipped, without sorting."""
    sums = op.running_sum(op.concat([g, seen]), 2 * m, c.count)
    spans = [window(op, c, width, itself=False) for width in (c.level, c.recent)]
    counts, means = [], []
    for low, high in spans:
        both = op.between(sums, low, high)
        counts.append(op.columns(both, m, 2 * m))
        means.append(op.columns(both, 0, m) / op.maximum(counts[-1], 1.0))
    both_rounds = _refine(op, c, g, seen, m, spans, counts, means)
    long, recent = _refine(op, c, g, seen, m, spans[:1], counts[:1], both_rounds[:1])[0], both_rounds[1]
    return long * (counts[0] / (counts[0] + c.prior)), recent


def _refine(op: Any, c: Chosen, g: X, seen: X, m: int, spans: list, counts: list, means: list) -> list:
    """Add to each moving mean the mean deviation from it, clipped at its mean size."""
    n = len(means)
    gaps = [(g - mean) * seen for mean in means]
    sizes_sum = op.running_sum(op.concat([op.abs(d) for d in gaps]), n * m, c.count)
    clipped = []
    for i, (low, high) in enumerate(spans):
        size = op.columns(op.between(sizes_sum, low, high), i * m, (i + 1) * m) / op.maximum(counts[i], 1.0)
        clipped.append(op.minimum(op.maximum(gaps[i], -size), size))
    sums = op.running_sum(op.concat(clipped), n * m, c.count)
    return [
        mean + op.columns(op.between(sums, low, high), i * m, (i + 1) * m) / op.maximum(counts[i], 1.0)
        for i, (mean, (low, high)) in enumerate(zip(means, spans))
    ]


def patterns() -> np.ndarray:
    """Which places of a window are shown, [5, W]: two in eight hidden, in four phases; the newest ones hidden."""
    place = np.arange(WINDOW)
    hidden = [(place // 2) % 4 == phase for phase in range(4)] + [place >= WINDOW - HIDDEN]
    return 1.0 - np.stack(hidden).astype(np.float32)


def reconstruct(op: Any, p: Parameters, c: Chosen, g: X, seen: X) -> X:
    """The autoencoder's idea of each point from the others around it (before it, in causal mode) [T, M].

    Whole: two tilings of windows, shifted by half, four times each, so that each point is hidden once in both;
    the two are weighted by the distance from the window's edge. Causal: one window for the newest points.
    """
    m, live = p.metrics, c.causal
    windows = (1 - live) * (4 * ((c.count - 1) // STRIDE + 2)) + live * ((c.count + HIDDEN - 1) // HIDDEN)
    w = op.arange(windows)
    start = (1 - live) * (STRIDE * (w // 4) - STRIDE) + live * (HIDDEN * w - (WINDOW - HIDDEN))
    shown = op.rows(op.constant(patterns(), "float"), (1 - live) * (w % 4) + live * 4)  # [N, W]
    row = op.column(start) + op.arange(WINDOW) + 1
    row = op.where(row <= c.count, op.maximum(row, 0), 0)  # row 0 is all missing
    padded = op.zero_row_first(op.concat([g, seen]), 2 * m)
    seen_of = op.split_rows(op.rows(padded, op.reshape(row, (-1,))), WINDOW, 2 * m)  # [N, W, 2M]
    shown_of = op.column(shown)
    x = op.swap(op.columns(seen_of, 0, m))  # [N, M, W]
    v = op.swap(op.columns(seen_of, m, 2 * m) * shown_of)
    out = autoencoder(op, p.weights, op.pick(op.constant(p.embedding, "float"), c.index), x, v, m)
    flat = op.merge_rows(op.swap(out), m)  # [N*W, M]
    t = op.arange(c.count)
    inside = t % STRIDE
    phase = (inside // 2) % 4
    late = (((t // STRIDE) + 1) * 4 + phase) * WINDOW + inside
    newest = (t // HIDDEN) * WINDOW + (WINDOW - HIDDEN) + t % HIDDEN
    first = op.rows(flat, (1 - live) * late + live * newest)
    second = op.rows(flat, (1 - live) * (late - 4 * WINDOW + STRIDE) + live * newest)
    weight = op.column(op.to_float(inside + 1) * (1.0 / (STRIDE + 1)))
    return second + (first - second) * weight


def autoencoder(op: Any, weights: Any, embedding: X, x: X, v: X, m: int) -> X:
    """Reconstruct windows from what is visible of them.

    x, v [N, M, W]: values, and 1.0 where visible. embedding [M, H]. Returns [N, M, W].
    """
    get = {name: op.constant(w, "float") if isinstance(w, np.ndarray) else w for name, w in weights.items()}
    mean = op.sum_last(x * v) / op.maximum(op.sum_last(v), 1.0)
    centred = op.clip(x - mean, -CLIP_WINDOW, CLIP_WINDOW) * v
    h = op.activation(op.matmul(centred, get["see"]) + op.matmul(v, get["see_mask"]) + embedding)
    width = weights["see"].shape[1]
    flat = op.merge_last(h, m * width)
    mixed = op.activation(op.matmul(flat, get["mix_in"]) + get["mix_in_bias"])
    h = h + op.split_last(op.matmul(mixed, get["mix_out"]) + get["mix_out_bias"], m, width)
    return op.matmul(h, get["show"]) + get["show_bias"] + mean


def residual_centers(op: Any, p: Parameters, c: Chosen, g: X, seen: X) -> list:
    """What each channel expects of g, [T, M] each: level of the week, of two hours, the autoencoder."""
    long, recent = levels(op, c, g, seen, p.metrics)
    return [long, recent, reconstruct(op, p, c, g, seen)]


def widened(op: Any, c: Chosen, g: X, seen: X, centers: list, m: int) -> list:
    """The noise [1, M] of each channel in this query: the training's, wider if a long query is noisier."""
    believed = op.minimum(c.days * (1.0 / WIDEN_DAYS), 1.0)
    share = op.maximum(op.mean_rows(seen), 1e-6)
    result = []
    for i, center in enumerate(centers):
        tau, size = op.columns(c.tau, i * m, (i + 1) * m), op.columns(c.size, i * m, (i + 1) * m)
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
    pull = [1.0 / (tau * tau * CHANNELS) for tau in noise]
    curvature = pull[0] + pull[1] + pull[2]
    share = [w / curvature for w in pull]
    bottom = centers[0] * share[0] + centers[1] * share[1] + centers[2] * share[2]
    floor = sum_all([(center - bottom) * (center - bottom) * w for center, w in zip(centers, pull)])
    away = g - bottom
    return Energy(away * away * curvature + floor, bottom, floor, curvature)


def sum_all(parts: list) -> X:
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def scale_sums(op: Any, p: Parameters, c: Chosen, e: X, seen: X) -> tuple[list, list, X, X]:
    """Mean energy at each scale, over what is usual where nothing was seen.

    Returns per scale: own [T, M]; joint [T, 1] (of all metrics together); then each point's own joint share
    [T, M] and the number of metrics seen [T, 1].
    """
    m = p.metrics
    usual = [op.columns(c.usual, i * m, (i + 1) * m) for i in range(len(SCALES))]
    parts = [(op.minimum(e, clip) - mu) * seen for clip, mu in zip(CLIP_ENERGY, usual)]
    joint_part = op.minimum(e, CLIP_JOINT) * seen
    metrics = op.sum_last(seen)
    if m > 1:
        mean = op.sum_last(joint_part) / op.maximum(metrics, 1.0)
        some = op.minimum(metrics, 1.0)
        parts += [(mean - op.columns(c.joint_usual, i, i + 1)) * some for i in range(len(SCALES))]
    sums = op.running_sum(op.concat(parts), len(SCALES) * (m + (m > 1)), c.count)
    own, joint = [], []
    for i, width in enumerate(SCALES):
        low, high = window(op, c, width, itself=True)
        all_ = op.between(sums, low, high) * (1.0 / width)
        own.append(op.columns(all_, i * m, (i + 1) * m) + usual[i])
        if m > 1:
            at = len(SCALES) * m + i
            joint.append(op.columns(all_, at, at + 1) + op.columns(c.joint_usual, i, i + 1))
    return own, joint, joint_part, metrics


def judge_scales(op: Any, p: Parameters, c: Chosen, e: Energy, seen: X, k: X) -> tuple[X, X, X]:
    """Square of the distance over all scales and at the shortest, and the own energy that reaches the line [T, M]."""
    m, line = p.metrics, k * k
    own, joint, joint_part, metrics = scale_sums(op, p, c, e.total, seen)
    best = shortest = reach = None
    for i, width in enumerate(SCALES):
        clip = CLIP_ENERGY[i]
        usual, limit = (op.columns(t, i * m, (i + 1) * m) for t in (c.usual, c.limit))
        weight = 1.0 / (limit * float(width) * (2.0 if m > 1 else 1.0))
        level = own[i] * weight * float(width)
        mine = (op.minimum(e.total, clip) - usual) * seen + usual
        rest = level - mine * weight
        if m > 1:
            joint_weight = 1.0 / (op.columns(c.joint_limit, i, i + 1) * (2.0 * width))
            joint_each = joint_weight / op.maximum(metrics, 1.0)
            together = joint[i] * joint_weight * float(width)
            level, rest = level + together, rest + (together - joint_part * joint_each)
            free = _reach_two(op, line - op.minimum(rest, line), weight, joint_each, clip)
            free_alone = _reach_two(op, line, weight, joint_each, clip)
        else:
            free = _reach_one(op, (line - rest) / weight, clip)
            free_alone = _reach_one(op, line / weight, clip)
        free = op.where(e.floor < free, free, free_alone)
        best = level if best is None else op.maximum(best, level)
        reach = free if reach is None else op.minimum(reach, free)
        shortest = level if shortest is None else shortest
    return best, shortest, reach


_NEVER = float("inf")


def _reach_one(op: Any, e: X, clip: float) -> X:
    return op.where(e < clip, e, _NEVER)


def _reach_two(op: Any, room: X, own: X, joint: X, clip: float) -> X:
    """The e at which own * min(e, clip) + joint * min(e, CLIP_JOINT) fills the room."""
    both = room / (own + joint)
    first = min(clip, CLIP_JOINT)
    one = (room - joint * CLIP_JOINT) / own if clip > CLIP_JOINT else (room - own * clip) / joint
    return op.where(both <= first, both, _reach_one(op, one, max(clip, CLIP_JOINT)))


def detect(op: Any, p: Parameters, timestamp: X, step: X, values: X, k: X, causal: X) -> dict[str, X]:
    """All of it: expected, lower, upper in raw units, score and own as distance over the distance of the line."""
    m = p.metrics
    c = choose(op, p, step, op.length(timestamp), causal)
    course = rhythm(op, p, c.index, timestamp, step)
    g, seen = deviations(op, c, course, values)
    centers = residual_centers(op, p, c, g, seen)
    e = energy(op, g, centers, widened(op, c, g, seen, centers, m))
    best, shortest, reach = judge_scales(op, p, c, e, seen, k)
    room = op.sqrt(op.maximum(reach - e.floor, 0.0) / e.curvature)
    there = op.observed(values)
    expected = (centers[2] + course) * c.spread + c.center
    middle = (e.bottom + course) * c.spread + c.center
    return {
        "expected": expected,
        "lower": op.minimum(middle - room * c.spread, expected),
        "upper": op.maximum(middle + room * c.spread, expected),
        "score": op.where(there, op.sqrt(op.maximum(best, 0.0)) / k, float("nan")),
        "own": op.where(there, op.sqrt(op.maximum(shortest, 0.0)) / k, float("nan")),
    }
