"""What is asked of Druid for training: which spans, which pages, what is summed, what is missing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from outliers.config import Training
from outliers.druid.traffic import FLOW_AGGREGATIONS
from outliers.series import Granularity, Series
from outliers.train.fetch import (
    DAY_S,
    Past,
    _spans,
    merged,
    new_holes,
    on_grid,
    pages,
    past_s,
    plan,
    points,
    said,
    summed,
)

SUMS = tuple(a for a in FLOW_AGGREGATIONS if a["type"] == "longSum")
NOW_S = 1_764_000_000 + 17 * 60 + 23


def minute() -> Granularity:
    return Granularity.parse("minute")


def test_plan_asks_three_granularities_and_sums_the_rest_where_all_metrics_are_sums():
    plans = plan(Training(), SUMS, 0, NOW_S)
    assert {text: p.summed_from for text, p in plans.items()} == {
        "PT1M": None, "PT2M": "PT1M", "PT5M": None, "PT15M": "PT5M", "PT30M": "PT5M",
        "PT1H": None, "PT2H": "PT1H", "PT8H": "PT1H",
    }  # fmt: skip


def test_plan_asks_every_granularity_where_a_metric_is_no_sum():
    assert all(p.summed_from is None for p in plan(Training(), FLOW_AGGREGATIONS, 0, NOW_S).values())


def test_plan_covers_whole_buckets_only_and_as_many_days_as_configured():
    for text, p in plan(Training(), SUMS, 0, NOW_S).items():
        step_s = p.granularity.step_s
        assert p.start_s % step_s == 0 and p.end_s % step_s == 0 and p.end_s <= NOW_S
        assert NOW_S - past_s(Training(), step_s) <= p.start_s < NOW_S - past_s(Training(), step_s) + step_s, text
    assert [past_s(Training(), s) // DAY_S for s in (60, 120, 300, 1800, 3600, 28800)] == [7, 7, 28, 28, 56, 56]


def test_plan_begins_with_the_first_whole_bucket_after_the_first_event():
    first_event_s = NOW_S - 3 * DAY_S
    for p in plan(Training(), SUMS, first_event_s, NOW_S).values():
        assert first_event_s <= p.start_s < first_event_s + p.granularity.step_s


def test_plan_leaves_out_granularities_without_a_whole_bucket():
    plans = plan(Training(), SUMS, NOW_S - 3000, NOW_S)
    assert list(plans) == ["PT1M", "PT2M", "PT5M", "PT15M", "PT30M"]


def test_pages_cover_the_span_once_in_bounded_pieces():
    step = plan(replace(Training(), granularities=("PT1M",)), SUMS, 0, NOW_S)["PT1M"]
    cut = pages(step, most=3000)
    assert cut[0][0] == step.start_s and cut[-1][1] == step.end_s
    assert all(a[1] == b[0] for a, b in zip(cut, cut[1:]))
    assert max(end_s - start_s for start_s, end_s in cut) <= 3000 * 60


def test_summed_buckets_equal_sums_and_a_missing_part_makes_them_missing():
    base = 1_764_000_000 // 3600 * 3600
    values = np.arange(20, dtype=float)[:, None]
    values[7] = np.nan
    fine = Series(base + 60 * np.arange(20), values, ("bytes",), "PT1M", 60)
    coarse = summed(fine, Granularity.of_step(300), base + 300, base + 1200)
    assert coarse.timestamps.tolist() == [base + 300, base + 600, base + 900]
    np.testing.assert_array_equal(coarse.values[:, 0], [np.nan, 10 + 11 + 12 + 13 + 14, 15 + 16 + 17 + 18 + 19])


def test_on_grid_leaves_missing_what_no_page_has():
    part = Series(np.array([120, 180]), np.array([[1.0], [2.0]]), ("bytes",), "PT1M", 60)
    whole = on_grid([part], ["bytes", "pkts"], minute(), 60, 300)
    assert whole.timestamps.tolist() == [60, 120, 180, 240]
    np.testing.assert_array_equal(whole.values[:, 0], [np.nan, 1, 2, np.nan])
    assert np.isnan(whole.values[:, 1]).all()
    assert points({"PT1M": whole}) == {"PT1M": 2}


def test_new_holes_are_neither_at_the_start_nor_known_from_the_last_job():
    past = Past({}, ((0, 50), (100, 200), (300, 400)), 0, 1000)
    assert new_holes(past, [(90, 250)]) == ((300, 400),)
    assert new_holes(past, []) == ((100, 200), (300, 400))
    assert new_holes(past, [(100, 150), (150, 200), (300, 400)]) == ()


def test_spans_are_cut_to_what_was_asked_and_merged():
    spans = _spans([(0, 50), (40, 71), (900, 950)], 10, 800)
    assert spans == [(10, 50), (40, 71)] and merged(spans) == ((10, 71),)


@pytest.mark.parametrize("count", [1, 3, 5])
def test_said_names_at_most_three_spans(count: int):
    text = said([(i * 100, i * 100 + 50) for i in range(count)])
    assert text.count(" to ") == min(count, 3) and ("2 more" in text) == (count == 5)
