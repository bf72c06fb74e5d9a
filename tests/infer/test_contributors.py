"""Who is behind a change of the sum."""

from __future__ import annotations

import numpy as np

from outliers.infer.contributors import contributors

RNG = np.random.default_rng(1)
CALM = 1000 + RNG.normal(0, 30, (20, 60))


def test_the_one_that_rose_is_named():
    values = CALM.copy()
    values[7, 30] *= 40
    assert contributors(values, [30]) == [[7]]


def test_the_ones_that_fell_are_named_when_the_sum_falls():
    values = CALM.copy()
    values[[3, 11], 30] = 0
    values[5, 30] += 200  # rose, which is not why the sum fell
    assert sorted(contributors(values, [30])[0]) == [3, 11]


def test_the_largest_change_comes_first_and_small_ones_are_left_out():
    values = CALM.copy()
    values[[1, 2, 3], 30] += [50_000, 80_000, 500]
    assert contributors(values, [30]) == [[2, 1]]


def test_a_large_host_that_is_as_always_is_not_named():
    values = CALM.copy()
    values[0] *= 1000
    values[9, 30] += 20_000
    values[0, 30] = np.median(values[0])
    assert contributors(values, [30]) == [[9]]


def test_nobody_is_named_where_nothing_changed():
    assert contributors(np.full((4, 10), 5.0), [3, 4]) == [[], []]
    assert contributors(np.zeros((0, 0)), []) == []
    assert contributors(np.full((2, 1), 5.0), [0]) == [[0, 1]]
