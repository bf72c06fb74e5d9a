"""Whose share of a whole changed at a moment: the hosts behind an anomaly; knows nothing of requests or Druid."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

NOISE = 3.0  # a change that is smaller than so many of its own usual sizes is none
EXPLAINED = 0.8  # of the change, by those who are named
MOST = 10


def contributors(values: NDArray[np.float64], moments: Sequence[int]) -> list[list[int]]:
    """Name for each of `moments` the rows of `values` [N, T] that explain how the sum differs from what is usual.

    What is usual of each is its median outside the moments, its noise their median deviation (1.4826 MAD). Named are
    those who changed in the direction of the sum and beyond their noise, the largest change first, until they explain
    most of it. Empty where nobody did.
    """
    elsewhere = np.ones(values.shape[1], bool)
    elsewhere[list(moments)] = False
    if not len(values) or not elsewhere.any():
        usual = noise = np.zeros(len(values))
    else:
        usual = np.median(values[:, elsewhere], axis=1)
        noise = 1.4826 * np.median(np.abs(values[:, elsewhere] - usual[:, None]), axis=1)
    return [_named(values[:, at] - usual, noise) for at in moments]


def _named(change: NDArray[np.float64], noise: NDArray[np.float64]) -> list[int]:
    towards = change if change.sum() >= 0 else -change
    order = np.argsort(-towards, kind="stable")
    order = order[(towards[order] > 0) & (towards[order] > NOISE * noise[order])]
    before = np.cumsum(towards[order]) - towards[order]  # explained by those named earlier
    enough = EXPLAINED * towards[order].sum()
    return [int(row) for row in order[before < enough][:MOST]]
