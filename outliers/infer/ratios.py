"""Which metrics are judged by ratios instead of differences; knows nothing of models, rhythms or scores.

Noise of traffic is mostly proportional to its level: on a logarithm it is the same by day and by night, and three times
the night's traffic stands out as three times the day's does.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from outliers.infer.scales import Floats, quantiles, robust_size

OFFSET = 0.3  # of the median: below, a ratio says little
GAIN = 0.06  # mean log-likelihood of a Laplace distribution that the logarithm must win
MOST_NOISE = 0.3  # on the logarithm: where noise itself doubles values, a difference shows large excursions better
CLIP = 8.0  # of the median size: what a few excursions add to the noise


def steps(values: Floats) -> Floats:
    """From point to point, brought to the size of a point's own noise: in a step there is hardly any level."""
    return np.diff(values, prepend=np.nan) / np.sqrt(2.0)


def offsets(values: Floats, noise_of: Callable[[Floats], Floats] = steps) -> Floats:
    """What is to be added to each metric of `values` [M, T] (NaN = missing) before its logarithm is taken, [M, 1].

    0 where differences describe it better: by the likelihood of its noise, which noise_of finds ([M, T] each way);
    always for what is ever negative or mostly 0.
    """
    seen = np.isfinite(values)
    middle = np.nan_to_num(quantiles(values, (0.5,))[0])
    possible = (middle > 0) & ~(seen & (values < 0)).any(axis=-1, keepdims=True)
    offset = np.where(possible, OFFSET * middle, 0.0)
    if not possible.any() or values.shape[-1] < 3:
        return np.zeros_like(offset)
    logarithms = as_ratios(values, offset)
    plain, ratio = noise_of(values), noise_of(logarithms)
    stretch = np.where(np.isfinite(ratio), logarithms, np.nan)
    with np.errstate(invalid="ignore", divide="ignore"):
        gain = np.log(_mean_size(plain)) - np.log(_mean_size(ratio)) - _mean(stretch)
        wanted = possible & (gain >= GAIN) & (robust_size(ratio) <= MOST_NOISE)
    return np.where(wanted, offset, 0.0)


def as_ratios(values: Floats, offset: Floats) -> Floats:
    """log(values + offset) where the offset is not 0, the values as they are elsewhere; below 0 counts as 0."""
    if not (offset > 0).any():
        return values
    with np.errstate(invalid="ignore"):
        return np.where(offset > 0, np.log(np.maximum(values, 0.0) + np.where(offset > 0, offset, 1.0)), values)


def raw(moved: Floats, offset: Floats) -> Floats:
    """What `as_ratios` was given, from what it gave."""
    if not (offset > 0).any():
        return moved
    with np.errstate(over="ignore", invalid="ignore"):
        return np.where(offset > 0, np.maximum(np.exp(np.where(offset > 0, moved, 0.0)) - offset, 0.0), moved)


def _mean_size(noise: Floats) -> Floats:
    size = np.abs(noise)
    return _mean(np.minimum(size, CLIP * quantiles(size, (0.5,))[0] + 1e-12))


def _mean(x: Floats) -> Floats:
    seen = ~np.isnan(x)
    return np.where(seen, x, 0.0).sum(axis=-1, keepdims=True) / np.maximum(seen.sum(axis=-1, keepdims=True), 1)
