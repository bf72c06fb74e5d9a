"""ISO instants, periods and time zones as numbers; knows nothing of series, queries or Druid's JSON.

Instants are int64 milliseconds or seconds since 1970-01-01T00:00Z. "Local" seconds are what a clock on the wall of a
time zone shows, counted as if it were UTC.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date as Date
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from typing import Any, Optional
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
from numpy.typing import NDArray

DAY_S = 86_400
MONTH_S = 30 * DAY_S  # nominal: what a calendar month counts for where one number is needed
YEAR_S = 365 * DAY_S

_LAST_YEAR = 292_000_000  # of which 64 bits hold the milliseconds
# Outside of these years every zone keeps the offset that it has at their edge: no list of changes is longer.
_ZONES_FROM_S, _ZONES_TO_S = -90 * YEAR_S, 130 * YEAR_S
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_INSTANT = re.compile(
    r"(?P<year>[+-]?\d{1,9})(?:-(?:(?P<month>\d{1,2})(?:-(?P<day>\d{1,2}))?|W(?P<week>\d{2})(?:-(?P<weekday>[1-7]))?"
    r"|(?P<yearday>\d{3})))?"
    r"(?:T(?:(?P<hour>\d{1,2})(?::(?P<minute>\d{1,2})(?::(?P<second>\d{1,2}))?)?(?:[.,](?P<fraction>\d+))?)?"
    r"(?P<offset>Z|[+-]\d{2}(?::?\d{2})?)?)?",
    re.IGNORECASE | re.ASCII,
)
_PERIOD = re.compile(
    r"P(?:(\d+)Y)?(?:(\d+)M)?(?:(\d+)W)?(?:(\d+)D)?"
    r"(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)(?:[.,](\d{1,9}))?S)?)?",
    re.IGNORECASE | re.ASCII,
)
_OFFSET = re.compile(r"(?:UTC|GMT)?([+-])(\d{1,2})(?::?(\d{2}))?", re.IGNORECASE | re.ASCII)


def days_of(year: Any, month: Any, day: Any) -> Any:
    """Days since 1970-01-01 of a proleptic Gregorian date; ints or int64 arrays alike.

    Source: H. Hinnant, "chrono-Compatible Low-Level Date Algorithms", days_from_civil.
    """
    y = year - (month <= 2)
    era = y // 400
    year_of_era = y - era * 400
    day_of_year = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    return era * 146_097 + year_of_era * 365 + year_of_era // 4 - year_of_era // 100 + day_of_year - 719_468


def civil_of(days: Any) -> tuple[Any, Any, Any]:
    """(year, month, day) of days since 1970-01-01; the inverse of `days_of`."""
    z = days + 719_468
    era = z // 146_097
    doe = z - era * 146_097
    yoe = (doe - doe // 1460 + doe // 36_524 - doe // 146_096) // 365
    doy = doe - (365 * yoe + yoe // 4 - yoe // 100)
    mp = (5 * doy + 2) // 153
    day = doy - (153 * mp + 2) // 5 + 1
    month = (mp + 2) % 12 + 1
    return yoe + era * 400 + (month <= 2), month, day


def month_length(year: Any, month: Any) -> Any:
    """Days in a month."""
    later = month + 1
    wraps = later > 12
    return days_of(year + wraps, later - 12 * wraps, 1) - days_of(year, month, 1)


def parse_instant_ms(text: str) -> int:
    """Milliseconds of an ISO time or date, UTC where it names no offset; ValueError if it is none."""
    match = _INSTANT.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not an ISO time")
    part = match.groupdict()
    if abs(int(part["year"])) > _LAST_YEAR:
        raise ValueError(f"{text!r} is not a time that fits into milliseconds")
    days = _days_of_parts(part)
    hour, minute, second = (int(part[k] or 0) for k in ("hour", "minute", "second"))
    if days is None or hour > 23 or minute > 59 or second > 59:
        raise ValueError(f"{text!r} is not a time that exists")
    unit_ms = 1000 if part["second"] else 60_000 if part["minute"] else 3_600_000
    fraction_ms = int(f"0{part['fraction'] or 0}") * unit_ms // 10 ** len(part["fraction"] or "0")
    at_s = days * DAY_S + hour * 3600 + minute * 60 + second
    return (at_s - _offset_of(part["offset"])) * 1000 + fraction_ms


def _days_of_parts(part: Mapping[str, Optional[str]]) -> Optional[int]:
    """Days since 1970 of a date by month and day, by week and weekday, or by day of the year; None if there is none."""
    year = int(part["year"] or 0)
    if part["week"]:
        week, weekday = int(part["week"]), int(part["weekday"] or 1)
        fourth = int(days_of(year, 1, 4))  # always in week 1, which starts on a Monday
        days = fourth - (fourth + 3) % 7 + (week - 1) * 7 + weekday - 1
        thursday = days - weekday + 4
        return days if int(civil_of(thursday)[0]) == year else None
    if part["yearday"]:
        days = int(days_of(year, 1, 1)) + int(part["yearday"]) - 1
        return days if int(civil_of(days)[0]) == year else None
    month, day = int(part["month"] or 1), int(part["day"] or 1)
    fits = 1 <= month <= 12 and 1 <= day <= month_length(year, month)
    return int(days_of(year, month, day)) if fits else None


def _offset_of(text: Optional[str]) -> int:
    if not text or text in "Zz":
        return 0
    digits = text[1:].replace(":", "")
    seconds = int(digits[:2]) * 3600 + int(digits[2:] or 0) * 60
    return -seconds if text[0] == "-" else seconds


def instant_text(at_ms: int, offset_s: int = 0) -> str:
    """ISO text with milliseconds, as Druid writes it: `Z` at offset 0, else `+02:00`."""
    local_ms = at_ms + offset_s * 1000
    days, rest = divmod(local_ms, DAY_S * 1000)
    year, month, day = civil_of(days)
    seconds, ms = divmod(rest, 1000)
    zone = (
        "Z"
        if not offset_s
        else f"{'-' if offset_s < 0 else '+'}{abs(offset_s) // 3600:02d}:{abs(offset_s) // 60 % 60:02d}"
    )
    clock = f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
    return f"{year:04d}-{month:02d}-{day:02d}T{clock}.{ms:03d}{zone}"


# Lengths of the fixed layouts YYYY-MM-DDTHH:MM:SS[.mmm][Z|+HH:MM] -> (places before the zone or with its Z, zone).
_LAYOUTS = {19: (19, 0), 20: (20, 0), 23: (23, 0), 24: (24, 0), 25: (19, 6), 29: (23, 6)}
_WITHOUT_MS = np.frombuffer(b"0000-00-00T00:00:00Z", np.uint8)
_WITH_MS = np.frombuffer(b"0000-00-00T00:00:00.000Z", np.uint8)
_MOST = np.array([int(digit) for digit in "999901903902905905909990"], np.uint8)  # at each place; no digit: 0
_WEIGHTS = np.zeros((24, 2))  # of each place, in a date as a number like 20260528 and in milliseconds of the day
_WEIGHTS[[0, 1, 2, 3, 5, 6, 8, 9], 0] = 10.0 ** np.arange(7, -1, -1)
_WEIGHTS[[11, 12, 14, 15, 17, 18, 20, 21, 22], 1] = 36e6, 36e5, 6e5, 6e4, 1e4, 1e3, 100, 10, 1


def instants_ms(texts: Sequence[str]) -> NDArray[np.int64]:
    """Milliseconds of many ISO times, int64 [N]; ValueError names the first text that is none.

    Fixed-width forms (Druid's) are read as one matrix of bytes, anything else one by one.
    """
    lengths = set(map(len, texts))
    if len(lengths) == 1:
        return _one_length(texts, lengths.pop())
    result = np.empty(len(texts), np.int64)
    each = np.fromiter(map(len, texts), np.int64, len(texts))
    for length in lengths:  # a zone whose offset is zero for half the year writes `Z` and `+01:00` in one answer
        where = np.flatnonzero(each == length).tolist()
        result[where] = _one_length([texts[i] for i in where], length)
    return result


def _one_length(texts: Sequence[str], length: int) -> NDArray[np.int64]:
    fast = _fixed_width(texts, length) if length in _LAYOUTS else None
    if fast is not None:
        return fast
    return np.array([parse_instant_ms(text) for text in texts], np.int64)


def _fixed_width(texts: Sequence[str], length: int) -> Optional[NDArray[np.int64]]:
    """None where a text does not keep to the layout of its length."""
    joined = "".join(texts)
    if not joined.isascii():
        return None
    places, zone = _LAYOUTS[length]
    chars = np.frombuffer(joined.encode(), np.uint8).reshape(len(texts), length)[:, :places]
    digits = chars ^ (_WITH_MS if places > 20 else _WITHOUT_MS)[:places]  # of "0" to "9" 0 to 9, of the right mark 0
    if (digits > _MOST[:places]).any():
        return None
    date, clock_ms = (digits.astype(np.float64) @ _WEIGHTS[:places]).T.astype(np.int64)
    days = _days_of_dates(date)
    if days is None or (clock_ms >= DAY_S * 1000).any():
        return None
    at_ms = days * (DAY_S * 1000) + clock_ms
    if zone:
        offsets = {text[-zone:] for text in texts}
        if not all(re.fullmatch(r"[+-]\d\d:\d\d", offset) for offset in offsets):
            return None
        at_ms -= np.array([_offset_of(text[-zone:]) for text in texts], np.int64) * 1000
    return at_ms


def _days_of_dates(date: NDArray[np.int64]) -> Optional[NDArray[np.int64]]:
    """Days since 1970 of dates like 20260528, [N]; None if one is no date. A run of one day is reckoned once."""
    starts = np.flatnonzero(date[1:] != date[:-1]) + 1
    first = date[np.append(0, starts)]
    try:
        days = np.array([Date(at // 10_000, at // 100 % 100, at % 100).toordinal() for at in first.tolist()])
    except ValueError:
        return None
    days -= _EPOCH.toordinal()
    return days if len(days) == len(date) else np.repeat(days, np.diff(np.concatenate([[0], starts, [len(date)]])))


@dataclass(frozen=True)
class Period:
    """An ISO period; weeks are kept apart from days because a week starts on Monday."""

    months: int
    weeks: int
    days: int
    ms: int

    @classmethod
    def parse(cls, text: str) -> Period:
        """Read `P1M`, `pt1h30m`, …; ValueError if it is none or of no length."""
        match = _PERIOD.fullmatch(text.strip())
        if match is None or text.strip()[-1:] in "Tt":
            raise ValueError(f"{text!r} is not an ISO period")
        years, months, weeks, days, hours, minutes, seconds = (int(part or 0) for part in match.groups()[:7])
        ms = int((match.group(8) or "").ljust(3, "0")[:3])
        period = cls(years * 12 + months, weeks, days, (hours * 3600 + minutes * 60 + seconds) * 1000 + ms)
        if period == cls(0, 0, 0, 0):
            raise ValueError(f"{text!r} is a period of no length")
        return period

    @property
    def nominal_s(self) -> int:
        """Seconds, a month counted as 30 days and a year as 365."""
        years, months = divmod(self.months, 12)
        return years * YEAR_S + months * MONTH_S + (self.weeks * 7 + self.days) * DAY_S + self.ms // 1000

    def add(self, at_ms: int, times: int, zone: str = "UTC") -> int:
        """The instant `times` periods away (negative: before), by the calendar of `zone`."""
        if self.months or self.weeks or self.days:
            at_s, ms = divmod(at_ms, 1000)
            local_s = at_s + _offset_at(zone, at_s)
            if self.months:
                days, clock = divmod(local_s, DAY_S)
                local_s = int(add_months(days, self.months * times)) * DAY_S + clock
            local_s += (self.weeks * 7 + self.days) * DAY_S * times
            at_ms = _to_utc(zone, local_s) * 1000 + ms
        return at_ms + self.ms * times

    def __str__(self) -> str:
        years, months = divmod(self.months, 12)
        date = f"{f'{years}Y' if years else ''}{f'{months}M' if months else ''}"
        date += f"{f'{self.weeks}W' if self.weeks else ''}{f'{self.days}D' if self.days else ''}"
        return f"P{date}{_clock_text(self.ms)}"


def _clock_text(ms: int) -> str:
    seconds, ms = divmod(ms, 1000)
    hours, minutes, seconds = seconds // 3600, seconds // 60 % 60, seconds % 60
    text = f"{f'{hours}H' if hours else ''}{f'{minutes}M' if minutes else ''}"
    if seconds or ms:
        text += f"{seconds}{f'.{ms:03d}'.rstrip('0') if ms else ''}S"
    return f"T{text}" if text else ""


def period_text(seconds: int) -> str:
    """Canonical ISO text of a length in seconds: 60 -> PT1M, 5400 -> PT1H30M, 86400 -> P1D."""
    days, rest = divmod(seconds, DAY_S)
    return str(Period(0, 0, days, rest * 1000)) if not rest else str(Period(0, 0, 0, seconds * 1000))


def add_months(days: Any, months: Any) -> Any:
    """Days since 1970 of a date moved by whole months, the day clipped to the length of the month."""
    year, month, day = civil_of(days)
    total = year * 12 + month - 1 + months
    year, month = total // 12, total % 12 + 1
    return days_of(year, month, np.minimum(day, month_length(year, month)))


def zone_name(text: Optional[str]) -> str:
    """The zone Druid uses for a name: an IANA name, `+02:00`, or UTC (also for a name that it does not know)."""
    if not text:
        return "UTC"
    match = _OFFSET.fullmatch(text)
    if match:
        sign, hours, minutes = match.groups()
        return f"{sign}{int(hours):02d}:{minutes or '00'}" if int(hours) or int(minutes or 0) else "UTC"
    try:
        ZoneInfo(text)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return "UTC"
    return text


def fixed_offset_s(zone: str) -> Optional[int]:
    """Offset of a zone that never changes its clocks; None for one that may."""
    if zone[0] in "+-":
        return _offset_of(zone)
    return 0 if zone in ("UTC", "Etc/UTC", "GMT", "Zulu") else None


def offsets_s(zone: str, at_s: NDArray[np.int64]) -> NDArray[np.int64]:
    """Local time minus UTC at each instant, int64 seconds."""
    fixed = fixed_offset_s(zone)
    if fixed is not None or not len(at_s):
        return np.full(len(at_s), fixed or 0, np.int64)
    at_s = np.clip(at_s, _ZONES_FROM_S, _ZONES_TO_S)
    changes, offsets = _changes(zone, int(at_s.min()) // YEAR_S, int(at_s.max()) // YEAR_S + 1)
    return np.array(offsets, np.int64)[np.searchsorted(np.array(changes, np.int64), at_s, side="right")]


def _offset_at(zone: str, at_s: int) -> int:
    """`offsets_s` of one instant, without the cost of arrays."""
    fixed = fixed_offset_s(zone)
    if fixed is not None:
        return fixed
    at_s = min(max(at_s, _ZONES_FROM_S), _ZONES_TO_S)
    changes, offsets = _changes(zone, at_s // YEAR_S, at_s // YEAR_S + 1)
    return offsets[bisect_right(changes, at_s)]


def _to_utc(zone: str, local_s: int) -> int:
    """`to_utc_s` of one local time."""
    both = _offset_at(zone, local_s - DAY_S), _offset_at(zone, local_s + DAY_S)
    early_s = local_s - max(both)
    return early_s if _offset_at(zone, early_s) == local_s - early_s else local_s - min(both)


def to_utc_s(zone: str, local_s: NDArray[np.int64]) -> NDArray[np.int64]:
    """The instant of each local time: the earlier of two, and after the gap where the clock skips it (as Joda)."""
    fixed = fixed_offset_s(zone)
    if fixed is not None:
        return local_s - fixed
    before = offsets_s(zone, local_s - DAY_S)  # no zone changes its clock twice within two days
    after = offsets_s(zone, local_s + DAY_S)
    early, late = local_s - np.maximum(before, after), local_s - np.minimum(before, after)
    early_fits = offsets_s(zone, early) == local_s - early
    return np.where(early_fits, early, late)


@lru_cache(maxsize=256)
def _changes(zone: str, first: int, last: int) -> tuple[list[int], list[int]]:
    """Instants at which the clock of a zone changes, and the offsets before, between and after them.

    first, last: whole 365-day years since 1970, so that the cache is hit by most queries.
    """
    changes: list[int] = []
    offsets = [_probe(zone, first * YEAR_S)]
    for year in range(first, last + 1):
        for at_s, offset in _changes_in(zone, year):
            changes.append(at_s)
            offsets.append(offset)
    return changes, offsets


@lru_cache(maxsize=4096)
def _changes_in(zone: str, year: int) -> tuple[tuple[int, int], ...]:
    """(instant, offset from then on) of each change in one 365-day year, its first instant left out."""
    # zoneinfo gives no list of changes: probe each day, then halve the day in which the offset differs.
    days = range(year * YEAR_S, (year + 1) * YEAR_S + 1, DAY_S)
    probes = [_probe(zone, at_s) for at_s in days]
    found = []
    for low_s, before, after in zip(days, probes, probes[1:]):
        if before != after:
            low, high = low_s, low_s + DAY_S
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (middle, high) if _probe(zone, middle) == before else (low, middle)
            found.append((high, after))
    return tuple(found)


def _probe(zone: str, at_s: int) -> int:
    offset = (_EPOCH + timedelta(seconds=at_s)).astimezone(ZoneInfo(zone)).utcoffset()
    return int(offset.total_seconds()) if offset is not None else 0
