"""Granularities, intervals and the grid; that the edges are Druid's is shown on its recorded answers."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from outliers.errors import Unservable
from outliers.series import Granularity, Interval, Series, parse_intervals
from outliers.times import instant_text, offsets_s, parse_instant_ms

CASES = Path(__file__).parent / "druid" / "data" / "cases.jsonl.gz"


def seconds(text: str) -> int:
    return parse_instant_ms(text) // 1000


def answered() -> list[Any]:
    """Recorded cases with a grid: timeseries that was answered with rows."""
    cases = [json.loads(line) for line in gzip.decompress(CASES.read_bytes()).splitlines()]
    asked = [c for c in cases if isinstance(c["query"], dict) and c["query"].get("queryType") == "timeseries"]
    return [
        pytest.param(c["query"], [row["timestamp"] for row in json.loads(c["body"]) if row["timestamp"]], id=c["name"])
        for c in asked
        if c["status"] == 200 and c["query"]["granularity"] not in ("all", "none")
    ]


@pytest.mark.parametrize(("query", "stamps"), answered())
def test_grid_has_every_bucket_that_druid_answered(query: dict[str, Any], stamps: list[str]) -> None:
    granularity = Granularity.parse(query["granularity"])
    intervals = parse_intervals(query["intervals"])
    starts = [granularity.starts(i.start_ms // 1000, -(-i.end_ms // 1000)) for i in intervals]
    grid = np.concatenate(starts) if starts else np.empty(0, np.int64)
    texts = [instant_text(int(s) * 1000, int(o)) for s, o in zip(grid, offsets_s(granularity.zone, grid))]
    assert set(stamps) <= set(texts)
    for each in starts:
        assert (granularity.ends(each)[:-1] == each[1:]).all()
        assert (granularity.floor(each) == each).all()
        assert (granularity.floor(granularity.ends(each) - 1) == each).all()
    assert len(grid) <= granularity.count(intervals)


@pytest.mark.parametrize(
    ("value", "text", "step_s"),
    [
        ("minute", "PT1M", 60),
        ("FIFTEEN_minute", "PT15M", 900),
        ("six_hour", "PT6H", 21600),
        ("week", "P1W", 604800),
        ("quarter", "P3M", 90 * 86400),
        ({"type": "period", "period": "pt1h30m"}, "PT1H30M", 5400),
        ({"type": "PERIOD", "period": "PT60M"}, "PT1H", 3600),
        ({"type": "period", "period": "P1D", "timeZone": "Europe/Madrid"}, "P1D", 86400),
        ({"type": "period", "period": "P1M", "timeZone": None, "origin": None}, "P1M", 30 * 86400),
        ({"type": "duration", "duration": 300000}, "PT5M", 300),
        ({"type": "duration", "duration": "86400000"}, "P1D", 86400),
    ],
)
def test_granularity_has_one_text_whatever_its_form(value: Any, text: str, step_s: int) -> None:
    granularity = Granularity.parse(value)
    assert (granularity.text, granularity.step_s) == (text, step_s)


@pytest.mark.parametrize("value", ["all", "NONE", {"type": "all"}, {"type": "none"}])
def test_granularity_all_and_none_are_refused_with_a_reason(value: Any) -> None:
    with pytest.raises(Unservable, match=r"one bucket of everything|every millisecond"):
        Granularity.parse(value)


@pytest.mark.parametrize(
    "value",
    [
        None,
        60,
        "",
        "fortnight",
        {},
        {"type": "moon"},
        {"type": "period"},
        {"type": "period", "period": "5 minutes"},
        {"type": "period", "period": "PT0.5S"},
        {"type": "duration"},
        {"type": "duration", "duration": 0},
        {"type": "duration", "duration": "x"},
        {"type": "duration", "duration": 1500},
        {"type": "period", "period": "PT1H", "origin": "never"},
    ],
)
def test_granularity_that_druid_refuses_is_refused(value: Any) -> None:
    with pytest.raises(Unservable, match="granularity"):
        Granularity.parse(value)


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        ("PT8H", """knows: write 'eight_hour' or {"type": "period", "period": "PT8H"}"""),
        ("pt2m", """knows: write {"type": "period", "period": "PT2M"}"""),
        ("fortnight", "knows"),
        ("PT0.5S", "knows"),
    ],
)
def test_granularity_that_is_a_plain_period_is_refused_with_its_other_spelling(value: str, hint: str) -> None:
    with pytest.raises(Unservable, match=re.escape(hint) + "$"):
        Granularity.parse(value)


@pytest.mark.parametrize(
    "value",
    [
        {"type": "period", "period": "P999999999999Y"},
        {"type": "period", "period": "PT99999999999999999999H"},
        {"type": "duration", "duration": 10**18},
        {"type": "period", "period": "P1D", "timeZone": "Europe/Madrid", "origin": "146140482-04-24T15:36:27Z"},
        {"type": "period", "period": "P1D", "origin": "999999999-01-01"},
    ],
)
def test_granularity_beyond_all_bounds_is_refused_and_breaks_nothing(value: Any) -> None:
    with pytest.raises(Unservable, match="granularity"):
        Granularity.parse(value)


def test_times_thousands_of_years_away_have_buckets_too() -> None:
    madrid = Granularity.parse({"type": "period", "period": "P1Y", "timeZone": "Europe/Madrid"})
    starts = madrid.starts(seconds("0001-01-01"), seconds("9999-01-01"))
    assert len(starts) == 10_000  # local years begin beside the UTC ones at both ends
    far = parse_intervals("146140482-01-01/P1D")[0]
    assert len(
        Granularity.parse({"type": "period", "period": "PT6H", "timeZone": "Europe/Madrid"}).starts(
            far.start_ms // 1000, far.end_ms // 1000
        )
    ) in (4, 5)


def test_days_of_a_zone_have_their_own_seconds_over_both_changes_of_the_clock() -> None:
    madrid = Granularity.parse({"type": "period", "period": "P1D", "timeZone": "Europe/Madrid"})
    autumn = madrid.starts(seconds("2025-10-24T22:00:00Z"), seconds("2025-10-28T23:00:00Z"))
    assert ((madrid.ends(autumn) - autumn) / 3600).tolist() == [24, 25, 24, 24]
    spring = madrid.starts(seconds("2025-03-29T00:00:00Z"), seconds("2025-03-31T00:00:00Z"))
    assert ((madrid.ends(spring) - spring) / 3600).tolist() == [24, 23, 24]


def test_months_have_their_own_seconds() -> None:
    month = Granularity.parse("month")
    starts = month.starts(seconds("2024-01-15"), seconds("2024-04-01"))
    assert ((month.ends(starts) - starts) / 86400).tolist() == [31, 29, 31]
    mid = Granularity.parse({"type": "period", "period": "P1M", "origin": "2025-01-31T06:00:00Z"})
    assert instant_text(int(mid.floor(seconds("2025-03-01"))[0]) * 1000) == "2025-02-28T06:00:00.000Z"


def test_mixed_periods_step_from_their_origin() -> None:
    mixed = Granularity.parse({"type": "period", "period": "P1DT12H", "timeZone": "Europe/Madrid"})
    starts = mixed.starts(seconds("2025-10-20"), seconds("2025-11-05"))
    assert (mixed.ends(starts)[:-1] == starts[1:]).all()
    assert sorted(set(np.diff(starts) // 3600)) == [36, 37]
    with pytest.raises(Unservable, match="before its origin"):
        Granularity.parse({"type": "period", "period": "P1MT1H", "origin": "2025-01-01"}).floor(seconds("2024-01-01"))


@given(
    st.integers(0, 2_000_000_000),
    st.integers(1, 40 * 86400),
    st.sampled_from(["PT7M", "PT1H", "P1D", "P1W", "P1M", "P2D", "P3W", "P1Y"]),
    st.sampled_from(["UTC", "Europe/Madrid", "America/Sao_Paulo", "Asia/Kolkata", "-03:30"]),
)
def test_buckets_follow_each_other_and_cover_what_is_asked(start: int, length: int, period: str, zone: str) -> None:
    granularity = Granularity.parse({"type": "period", "period": period, "timeZone": zone})
    starts = granularity.starts(start, start + length)
    ends = granularity.ends(starts)
    assert starts[0] <= start < ends[0]
    assert starts[-1] < start + length <= ends[-1]
    assert (ends[:-1] == starts[1:]).all()
    middles = starts + (ends - starts) // 2
    assert granularity.positions(middles, starts).tolist() == list(range(len(starts)))
    interval = Interval(start * 1000, (start + length) * 1000)
    if period not in ("P1M", "P1Y"):
        assert len(starts) <= granularity.count([interval]) <= len(starts) + 2


def test_buckets_of_all_eternity_are_counted_without_being_made() -> None:
    eternity = parse_intervals("-146136543-09-08T08:23:32.096Z/146140482-04-24T15:36:27.903Z")
    assert Granularity.parse("minute").count(eternity) > 10**14
    assert Granularity.parse("month").count(eternity) > 10**9
    assert Granularity.parse("minute").count(()) == 0


def test_intervals_are_sorted_and_merged() -> None:
    parsed = parse_intervals(
        ["2025-10-25T12:00Z/PT10M", "2025-10-25T10:10Z/2025-10-25T10:30Z", "2025-10-25T12:00+02:00/PT20M"]
    )
    assert [str(interval) for interval in parsed] == [
        "2025-10-25T10:00:00.000Z/2025-10-25T10:30:00.000Z",
        "2025-10-25T12:00:00.000Z/2025-10-25T12:10:00.000Z",
    ]
    assert parse_intervals("2025-10-25T10:00Z/2025-10-25T10:00Z") == ()


@pytest.mark.parametrize(
    "value",
    [
        "2025-10-25T10:00:00Z/PT30M",
        "PT30M/2025-10-25T10:30:00Z",
        "2025-10-25T10:00Z/PT10M,2025-10-25T10:10Z/PT20M",
        {"type": "intervals", "intervals": ["2025-10-25T10:00:00Z/2025-10-25T10:30:00Z"]},
        {"type": "legacy", "intervals": "2025-10-25T10/2025-10-25T10:30"},
    ],
)
def test_intervals_in_every_form_are_read(value: Any) -> None:
    (interval,) = parse_intervals(value)
    assert str(interval) == "2025-10-25T10:00:00.000Z/2025-10-25T10:30:00.000Z"


@pytest.mark.parametrize(
    "value",
    [
        None,
        5,
        "",
        [],
        [5],
        {},
        "yesterday",
        "2025-10-25",
        "2025-10-26/2025-10-25",
        "PT1H/PT1H",
        "P1D/x",
        {"type": "segments", "segments": []},
        ["2025/2026", "nonsense"],
    ],
)
def test_intervals_that_druid_refuses_are_refused(value: Any) -> None:
    with pytest.raises(Unservable, match="interval"):
        parse_intervals(value)


def test_series_finds_its_columns() -> None:
    series = Series(np.array([0, 60]), np.zeros((2, 2)), ("bytes", "pkts"), "PT1M", 60)
    assert (len(series), series.column("pkts")) == (2, 1)
    with pytest.raises(ValueError, match="not in tuple"):
        series.column("flows")
