"""Instants, periods and zones."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from outliers.times import (
    Period,
    civil_of,
    days_of,
    instant_text,
    instants_ms,
    offsets_s,
    parse_instant_ms,
    period_text,
    to_utc_s,
    zone_name,
)

instants = st.integers(0, 4_102_444_800_000)
offsets = st.sampled_from([0, 3600, 7200, -14400, 19800, -12600])


@given(st.lists(st.tuples(instants, offsets), min_size=1, max_size=20))
def test_instants_written_as_druid_does_are_read_back(moments: list[tuple[int, int]]) -> None:
    texts = [instant_text(at_ms, offset_s) for at_ms, offset_s in moments]
    assert instants_ms(texts).tolist() == [at_ms for at_ms, _ in moments]
    assert [parse_instant_ms(text) for text in texts] == [at_ms for at_ms, _ in moments]


@given(st.integers(-800_000, 800_000))
def test_dates_survive_the_way_to_days_and_back(days: int) -> None:
    assert days_of(*civil_of(days)) == days
    assert days_of(1970, 1, 1) == 0


@pytest.mark.parametrize(
    ("text", "same_as"),
    [
        ("2025", "2025-01-01T00:00:00Z"),
        ("2025-10", "2025-10-01T00:00:00Z"),
        ("2025-10-25", "2025-10-25T00:00:00.000Z"),
        ("2025-10-25T10", "2025-10-25T10:00:00Z"),
        ("2025-10-25T12:00+0200", "2025-10-25T10:00:00Z"),
        ("2025-10-25T10:00:00.5z", "2025-10-25T10:00:00.500Z"),
        ("2025-10-25T10:00:00", "2025-10-25T10:00:00Z"),
        ("2025-W43-6", "2025-10-25"),
        ("2026-W01", "2025-12-29"),
        ("2025-298T10", "2025-10-25T10:00:00Z"),
    ],
)
def test_instants_in_short_forms_are_read(text: str, same_as: str) -> None:
    assert parse_instant_ms(text) == parse_instant_ms(same_as)
    assert instants_ms([text, same_as])[0] == instants_ms([same_as])[0]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "yesterday",
        "2025-13-01",
        "2025-W53",
        "2025-366",
        "2025-02-29",
        "2025-04-31T00:00:00.000Z",
        "2025-10-25T24:00:00.000Z",
        "2025-10-25Z",
        "2025-10-25 10:00:00.000Z",
        "2025-10-25T10:61:00.000Z",
        "2025-10-25T10:00:00.000+2:00",
        "2025-1０-25",
    ],
)
def test_instants_that_are_none_are_refused_with_the_text(text: str) -> None:
    with pytest.raises(ValueError, match="not a"):
        instants_ms(["2025-10-25T10:00:00.000Z", text])
    with pytest.raises(ValueError, match="not a"):
        parse_instant_ms(text)


@pytest.mark.parametrize(
    ("text", "canonical", "seconds"),
    [
        ("PT1M", "PT1M", 60),
        ("pt1h30m", "PT1H30M", 5400),  # the old service read 7,800 s
        ("P1M", "P1M", 30 * 86400),  # and 60 s
        ("P1Y2M3W4DT5H6M7S", "P1Y2M3W4DT5H6M7S", 365 * 86400 + 60 * 86400 + 25 * 86400 + 18367),
        ("PT90S", "PT1M30S", 90),
    ],
)
def test_periods_are_read_in_either_case(text: str, canonical: str, seconds: int) -> None:
    period = Period.parse(text)
    assert (str(period), period.nominal_s) == (canonical, seconds)


@pytest.mark.parametrize("text", ["", "P", "PT", "P1DT", "1M", "PT1X", "P-1D", "PT0S", "P1M2Y", "5 minutes"])
def test_periods_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="period"):
        Period.parse(text)


def test_seconds_become_the_shortest_period() -> None:
    assert [period_text(s) for s in (1, 60, 300, 3600, 5400, 28800, 86400, 604800)] == [
        *("PT1S", "PT1M", "PT5M", "PT1H", "PT1H30M", "PT8H", "P1D", "P7D"),
    ]


def test_a_period_is_added_by_the_calendar_of_its_zone() -> None:
    before = parse_instant_ms("2025-10-25T00:00:00+02:00")  # a day of 25 hours follows in Madrid
    assert instant_text(Period.parse("P2D").add(before, 1, "Europe/Madrid"), 3600) == "2025-10-27T00:00:00.000+01:00"
    assert instant_text(Period.parse("P1M").add(parse_instant_ms("2025-03-31"), -1)) == "2025-02-28T00:00:00.000Z"


def test_zones_that_nobody_knows_are_utc_as_in_druid() -> None:
    assert zone_name("Europe/Madrid") == "Europe/Madrid"
    assert zone_name("+0200") == zone_name("+02:00") == "+02:00"
    assert [zone_name(name) for name in ("Mars/Olympus", "../etc/passwd", "", None, "UTC", "+00:00")] == ["UTC"] * 6


def test_the_clock_changes_at_its_second_and_local_times_find_their_instant() -> None:
    change = parse_instant_ms("2025-10-26T01:00:00Z") // 1000
    around = np.array([change - 1, change], np.int64)
    assert offsets_s("Europe/Madrid", around).tolist() == [7200, 3600]
    skipped = np.array([parse_instant_ms("2025-03-30T02:30:00Z") // 1000])  # no such time on that day's clock
    assert instant_text(int(to_utc_s("Europe/Madrid", skipped)[0]) * 1000, 7200) == "2025-03-30T03:30:00.000+02:00"
    twice = np.array([parse_instant_ms("2025-10-26T02:30:00Z") // 1000])
    assert instant_text(int(to_utc_s("Europe/Madrid", twice)[0]) * 1000, 7200) == "2025-10-26T02:30:00.000+02:00"
