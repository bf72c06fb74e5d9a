from __future__ import annotations

import numpy as np
import pytest

from outliers.train import calibrate
from outliers.train.calibrate import Held, alarms, line

pytestmark = pytest.mark.trainer


def held(distance: np.ndarray, step_s: int = 300, first: int = 0) -> Held:
    return Held(distance, distance, np.ones(len(distance), bool), first, step_s, "whole")


def with_peaks(height: float, every: int, days: int = 10) -> Held:
    distance = np.full(days * 288, 0.5)
    distance[every // 2 :: every] = height
    return held(distance)


def test_alarms_less_than_an_hour_apart_are_one() -> None:
    distance = np.zeros(288)
    distance[[100, 105, 111, 200]] = 2.0  # 25 and 30 minutes apart, then hours
    assert alarms(held(distance), 1.0) == 2


def test_alarms_before_the_judged_part_do_not_count() -> None:
    distance = np.zeros(288)
    distance[[50, 200]] = 2.0
    assert alarms(held(distance, first=100), 1.0) == 1


def test_run_that_nobody_confirms_is_no_alarm() -> None:
    distance = np.zeros(288)
    distance[100:104] = 1.5
    alone = Held(distance, distance, np.zeros(288, bool), 0, 300, "whole")
    smeared = Held(distance, distance * 0.3, np.ones(288, bool), 0, 300, "whole")
    assert alarms(alone, 1.0) == 0 and alarms(smeared, 1.0) == 0
    assert alarms(alone, 0.7) == 1  # twice the line needs no witness


def test_line_keeps_to_each_budget_that_was_countable() -> None:
    rng = np.random.default_rng(0)
    h = held(rng.gumbel(0.5, 0.12, 28 * 288))
    found = line(h)
    assert list(found.budgets.values()) == sorted(found.budgets.values(), reverse=True)
    for budget in (0.25, 0.5, 1.0):
        k = found.budgets[budget]
        assert alarms(h, k) <= 2 * max(budget * h.days, 1) or k == calibrate.MOST_K


def test_line_of_a_loud_sensor_is_higher_than_of_a_quiet_one() -> None:
    loud, quiet = line(with_peaks(1.8, 100)), line(with_peaks(0.9, 100))
    assert loud.k(0.25) > quiet.k(0.25)
    assert quiet.k(0.25) >= calibrate.LEAST_K["whole"]


def test_line_of_a_few_hours_is_the_fixed_one() -> None:
    found = line(held(np.ones(100)))
    assert not found.budgets and found.k(0.25) == calibrate.FIXED["whole"]
