"""What most days have at about the same hour moves the line there; so does what bursts all the time."""

from __future__ import annotations

import numpy as np

from outliers.infer import baseline, habit
from outliers.infer.judge import judge
from tests.infer.traffic import MONDAY, series, traffic

DAY = 288  # points of five minutes


def days(count: int, seed: int = 0) -> np.ndarray:
    return traffic(count * DAY, 300, seed=seed)


def with_backup(values: np.ndarray, factor: float = 4.0, seed: int = 0) -> np.ndarray:
    """A quarter of an hour of more traffic every night, within half an hour of 02:00."""
    rng = np.random.default_rng(seed)
    values = values.copy()
    for day in range(len(values) // DAY):
        start = day * DAY + 24 + int(rng.integers(-6, 7))
        values[start : start + 3] *= factor
    return values


def flags(values: np.ndarray) -> np.ndarray:
    one = series(values, 300)
    scores, _ = baseline.score(one)
    return judge(one, scores, "m0").flag


def test_nightly_backup_is_no_anomaly_and_the_same_at_noon_is():
    values = with_backup(days(8))
    assert not flags(values).any()
    noon = 6 * DAY + 144
    values[noon : noon + 3] *= 4
    flag = flags(values)
    assert flag[noon : noon + 3].any() and flag[: noon - 6].sum() == 0


def test_attack_at_the_backups_hour_is_flagged_when_it_is_larger():
    values = with_backup(days(8), factor=1.6)
    assert not flags(values).any()
    start = 6 * DAY + 24
    values[start : start + 6] *= 4
    assert flags(values)[start : start + 6].any()


def test_excursion_of_three_nights_of_eight_is_no_habit():
    values, every = days(8), with_backup(days(8))
    for day in (1, 4, 6):
        values[day * DAY : (day + 1) * DAY] = every[day * DAY : (day + 1) * DAY]
    flag = flags(values)
    assert all(flag[day * DAY : (day + 1) * DAY].any() for day in (1, 4, 6))


def test_habit_is_one_where_there_are_too_few_days_or_nothing_is_known():
    t = MONDAY + 300 * np.arange(2 * DAY)
    assert (habit.of_day(np.full((len(t), 1), 5.0), t) == 1).all()
    t = MONDAY + 300 * np.arange(8 * DAY)
    assert (habit.of_day(np.full((len(t), 2), np.nan), t) == 1).all()


def test_habit_brings_its_usual_distance_below_the_line():
    t = MONDAY + 300 * np.arange(8 * DAY)
    distance = np.full((len(t), 1), 0.5)
    distance[24::DAY] = 4.0
    factor = habit.of_day(distance, t)
    assert factor[2, 0] == 4.0 / 1.1 and factor[12, 0] == 1.0
    assert (factor[0:5, 0] > 1).all() and (factor[5:24, 0] == 1).all()


def test_sensor_that_bursts_all_the_time_is_flagged_only_for_what_is_more():
    rng = np.random.default_rng(3)
    values = 100 + rng.normal(size=2 * DAY)
    starts = np.arange(11, 2 * DAY - 10, 23)
    for start in starts:
        values[start : start + 2] += 900 * rng.uniform(0.9, 1.1)
    usual = flags(values)
    assert usual.sum() <= 6
    values[300:304] += 5000
    assert flags(values)[300:304].any()


def test_ten_outages_of_the_last_hours_are_no_nature_of_the_sensor():
    values = traffic(1440, 60, day=0.0)
    starts = 1200 + 20 * np.arange(10)
    for start in starts:
        values[start : start + 4] = 0
    one = series(values)
    scores, _ = baseline.score(one)
    flag = judge(one, scores, "m0", empty=values == 0, counting=("m0",)).flag
    assert all(flag[start : start + 4].any() for start in starts)
