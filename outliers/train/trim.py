"""What a model must not learn as normal: excursions that leave and return; it must not know the network.

A new level that reaches the end of the data and is older than a day is the new normal and stays.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from outliers.train.scaling import Floats, quantile

_SMOOTH_S, _AROUND_S = 2700, 1800  # what is shorter at fine steps is noise; at an hour one point is an event
_SMOOTH, _AROUND = 9, 6  # points, at most
_LEAST, _MOST = 4.0, 8.0  # root of the energy at which a stretch is suspicious: q98 within these
_DAY_S = 86_400


def suspicious(g: Floats, recent: Floats, step_s: int) -> NDArray[np.bool_]:
    """Which points [T, M] are left out of every later fit.

    g: deviations, NaN = missing. recent: their level over two hours.
    """
    difference = np.diff(g, axis=0, prepend=g[:1])
    parts = [_z(g - np.nan_to_num(quantile(g, 0.5))), _z(g - recent), _z(difference)]
    energy = np.mean([np.nan_to_num(z) ** 2 for z in parts], axis=0)
    smooth = min(_SMOOTH, max(_SMOOTH_S // step_s, 1)) // 2 * 2 + 1
    around = min(_AROUND, max(_AROUND_S // step_s, 1))
    root = np.sqrt(_moving_mean(energy, smooth))
    line = np.clip(quantile(np.where(np.isfinite(g), root, np.nan), 0.98), _LEAST, _MOST)
    out = np.zeros(g.shape, bool)
    day = max(1, round(_DAY_S / step_s))
    for j in range(g.shape[1]):
        edges = np.diff(np.concatenate([[0], (root[:, j] > line[j]).astype(np.int8), [0]]))
        for start, stop in zip(np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)):
            if stop >= len(g) - around and stop - start >= day:
                continue
            out[max(start - around, 0) : stop + around, j] = True
    return out


def _z(residual: Floats) -> Floats:
    """Sizes over the usual size, at most 30."""
    size = np.abs(residual)
    usual = np.maximum(1.4826 * quantile(size, 0.5), quantile(size, 0.95) / 1.96)
    mean = np.nansum(size, 0) / np.maximum(np.isfinite(size).sum(0), 1)
    usual = np.where(usual > 1e-9, usual, np.maximum(mean * 1.2533, 1e-9))
    return np.minimum(size / usual, 30.0)


def _moving_mean(x: Floats, width: int) -> Floats:
    half = width // 2
    total = np.cumsum(np.concatenate([np.zeros((1, x.shape[1])), np.pad(x, ((half, half), (0, 0)))]), axis=0)
    return (total[width:] - total[:-width]) / width
