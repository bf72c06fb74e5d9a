"""The masked autoencoder, for training's windows and for a whole query; it must not know what is made of its ideas."""

from __future__ import annotations

from typing import Any

import numpy as np

from export.chosen import Chosen, X
from export.parameters import ASKED, HIDDEN, PHASES, STRIDE, WINDOW, Parameters

CLIP_WINDOW = 8.0  # what it is shown of a deviation, in its own units


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
    cut = op.swap(op.rows(padded, row))  # [U, 2M, W]
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


def window_unit(op: Any, noise: X) -> X:
    """What the autoencoder takes for 1: between a usual deviation and the noise around it, which may be far smaller."""
    return op.sqrt(noise)
