"""The levels that residuals are taken to, as the graph has them; it must not know what is judged by them."""

from __future__ import annotations

import numpy as np

from export.arithmetic import DAY_S
from outliers.train.scaling import Floats

_RECENT_S, _RECENT_POINTS = 7200, (13, 241)
_LEVEL_DAYS = 7


def recent_points(step_s: int) -> int:
    """Width in points of the level over two hours; odd."""
    return int(np.clip(round(_RECENT_S / step_s), *_RECENT_POINTS)) | 1


def level_points(step_s: int) -> int:
    """Width in points of the level over a week; odd."""
    return max(round(_LEVEL_DAYS * DAY_S / step_s), 13) | 1


def moving_level(g: Floats, width: int) -> Floats:
    """Moving mean [T, M], refined once by the deviations clipped at their mean size, as the graph's levels are."""

    def mean(x: Floats) -> Floats:
        total = np.cumsum(np.concatenate([np.zeros((1, x.shape[1])), np.nan_to_num(x)]), axis=0)
        count = np.cumsum(np.concatenate([np.zeros((1, x.shape[1])), np.isfinite(x)]), axis=0)
        t = np.arange(len(x))
        low, high = np.maximum(t - width // 2, 0), np.minimum(t + width // 2 + 1, len(x))
        return (total[high] - total[low]) / np.maximum(count[high] - count[low], 1)

    first = mean(g)
    size = mean(np.abs(g - first))
    return first + mean(np.clip(g - first, -size, size))
