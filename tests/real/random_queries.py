"""Random Druid queries, good and bad, over the random events; it must not know what the right answer is."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from typing import Any

from tests.real.random_events import DAYS
from tests.real.random_mistakes import spoiled
from tests.real.random_parts import LONGS, Parts, Query, named

SIMPLE = (
    *("second", "minute", "five_minute", "ten_minute", "fifteen_minute", "thirty_minute", "hour", "six_hour"),
    *("eight_hour", "day", "week", "month", "quarter", "year", "all", "MINUTE", "Hour"),
)
PERIODS = (
    *("PT45S", "PT1M", "PT5M", "pt15m", "PT7M", "PT1H", "PT90M", "PT1H30M", "PT6H", "PT12H", "PT13H", "PT36H"),
    *("P1D", "P2D", "P10D", "P1W", "P2W", "P4W", "P1M", "P2M", "P3M", "P1Y", "P1DT6H"),
)
# Where such buckets cross midnight UTC, as in a zone of half an hour, Druid itself loses some of their events.
COMPOUND = ("PT1H30M", "P1DT6H")
# Not Singapore's, Nepal's or Lord Howe's: where the clock's minutes were others in 1970, buckets of several hours
# overlap and repeat in Druid itself, each segment with its own.
ZONES = (
    *("Europe/Madrid", "Europe/London", "America/New_York", "America/St_Johns", "America/Sao_Paulo", "Asia/Kolkata"),
    *("Australia/Adelaide", "Pacific/Chatham", "Etc/GMT+3", "UTC", "+05:30", "-03:00", "+14:00", "Nowhere/Town"),
)
# None before 1970, from which Druid counts durations wrongly.
ORIGINS = (
    *("2026-03-01T02:00:00Z", "2026-10-25T00:30:00Z", "2027-01-15T00:00:00Z", "2001-06-01T00:00:07Z"),
    *("2026-03-29T02:30:00+02:00", "2026-01-15T00:00:00Z", "2030-06-01T00:00:00Z"),
)
SECONDS_OF = {"S": 1, "M": 60, "H": 3600}
DAYS_OF = {"D": 1, "W": 7, "M": 30, "Y": 365}
NAMED_S = {"second": 1, "minute": 60, "five_minute": 300, "ten_minute": 600, "fifteen_minute": 900}


def nominal_s(granularity: Any) -> float:
    """Guess the length of a bucket, to keep answers below some thousand rows."""
    if isinstance(granularity, str):
        return NAMED_S.get(granularity.lower(), 1800)
    if granularity["type"] == "duration":
        return float(granularity["duration"]) / 1000
    date, _, clock = granularity["period"].upper()[1:].partition("T")
    days = sum(int(number) * DAYS_OF[unit] for number, unit in re.findall(r"(\d+)([YMWD])", date))
    return days * 86_400 + sum(int(number) * SECONDS_OF[unit] for number, unit in re.findall(r"(\d+)([HMS])", clock))


class Queries(Parts):
    """A source of random queries; the same seed gives the same ones."""

    def good(self) -> Query:
        """Draw a query that Druid answers with 200."""
        kind = self.rng.choices((self.timeseries, self.top_n, self.time_boundary), (8, 2, 1))[0]
        return kind()

    def bad(self) -> Any:
        """Draw a query with one thing wrong in it; a text is sent as it stands."""
        return spoiled(self.top_n() if self.rng.random() < 0.15 else self.timeseries(), self.rng)

    def timeseries(self) -> Query:
        rng = self.rng
        monitor = rng.random() < 0.2
        granularity = self.granularity()
        query: Query = {
            "queryType": "timeseries",
            "dataSource": "rb_monitor" if monitor else "rb_flow",
            "granularity": granularity,
            "intervals": self.intervals(nominal_s(granularity)),
            "aggregations": self.aggregations(monitor),
        }
        if rng.random() < 0.1 and not monitor:
            query["virtualColumns"] = [self._virtual_column()]
            query["aggregations"].append({"type": "doubleSum", "name": "virtual", "fieldName": "v"})
        if rng.random() < 0.7:
            query["filter"] = self.filter(monitor)
        if rng.random() < 0.5:
            query["postAggregations"] = self.post_aggregations(query["aggregations"])
        if rng.random() < 0.3:
            query["descending"] = True
        if rng.random() < 0.25:
            query["limit"] = rng.choice((1, 3, 50))
        context: Query = {}
        if rng.random() < 0.3:
            context["skipEmptyBuckets"] = rng.choice((True, True, "true", False))
        if rng.random() < 0.25:
            context["grandTotal"] = True
        if rng.random() < 0.15:
            context["uncoveredIntervalsLimit"] = 10
        if context:
            query["context"] = context
        return query

    def _virtual_column(self) -> Query:
        kind = self.rng.choice(("LONG", "DOUBLE"))
        column, other = self.rng.sample(LONGS, 2)
        return {"type": "expression", "name": "v", "expression": f"{column} * 2 - {other}", "outputType": kind}

    def top_n(self) -> Query:
        rng = self.rng
        aggregations = [self.aggregation(False, name) for name in ("a", "b")]
        dimension = rng.choice(("sensor_name", "application_id_name", "lan_ip", "direction", "no_such_dimension"))
        query: Query = {
            "queryType": "topN",
            "dataSource": "rb_flow",
            "granularity": rng.choice(("all", "all", self.granularity())),
            "dimension": dimension if rng.random() < 0.7 else self._dimension_spec(dimension),
            "threshold": rng.choice((1, 3, 100)),
            "aggregations": aggregations,
        }
        query["intervals"] = self.intervals(max(3600, nominal_s(query["granularity"]) * 20))
        names = [named(each) for each in aggregations]
        if rng.random() < 0.3:
            query["postAggregations"] = self.post_aggregations(aggregations)
            names += [each["name"] for each in query["postAggregations"]]
        query["metric"] = self._order(names)
        if rng.random() < 0.5:
            query["filter"] = self.filter(False)
        return query

    def _order(self, names: list[str]) -> Any:
        rng = self.rng
        kind = rng.random()
        metric: Any = rng.choice(names)
        if kind < 0.25:
            return {"type": "inverted", "metric": metric}
        if kind < 0.35:
            return {"type": "numeric", "metric": metric}
        if kind < 0.6:
            order: Query = {"type": "dimension", "ordering": rng.choice(("lexicographic", "numeric", "strlen"))}
            if rng.random() < 0.3:
                order["previousStop"] = rng.choice(("10", "dns", "hq-lyon"))
            return {"type": "inverted", "metric": order} if rng.random() < 0.3 else order
        return metric

    @staticmethod
    def _dimension_spec(dimension: str) -> Query:
        return {"type": "default", "dimension": dimension, "outputName": "which"}

    def time_boundary(self) -> Query:
        query: Query = {"queryType": "timeBoundary", "dataSource": self.rng.choice(("rb_flow", "rb_monitor"))}
        if self.rng.random() < 0.6:
            query["bound"] = self.rng.choice(("minTime", "maxTime"))
        if self.rng.random() < 0.7:
            query["filter"] = self.filter(query["dataSource"] == "rb_monitor")
        return query

    def granularity(self) -> Any:
        rng = self.rng
        kind = rng.random()
        if kind < 0.35:
            return rng.choice(SIMPLE)
        if kind < 0.85:
            period: Query = {"type": "period", "period": rng.choice(PERIODS)}
            if period["period"] in COMPOUND:
                return period
            if rng.random() < 0.7:
                period["timeZone"] = rng.choice(ZONES)
            if rng.random() < 0.3 and not re.search("[MY]", period["period"].partition("T")[0]):  # Druid's months fail
                period["origin"] = rng.choice(ORIGINS)
            return period
        duration: Query = {"type": "duration", "duration": rng.choice((60000, "300000", 420000, 5400000, 86400000))}
        if rng.random() < 0.5:
            duration["origin"] = rng.choice(ORIGINS)
        return duration

    def intervals(self, bucket_s: float) -> Any:
        intervals = [self.interval(bucket_s) for _ in range(self.rng.choice((1, 1, 1, 2, 3)))]
        if len(intervals) == 1:
            return self.rng.choice((intervals, intervals[0], {"type": "intervals", "intervals": intervals}))
        return intervals

    def interval(self, bucket_s: float) -> str:
        """Draw an interval that holds some events, at most some thousand buckets long, on or off the grid."""
        rng = self.rng
        first, days = rng.choice(DAYS)
        begin = datetime.fromisoformat(first).replace(tzinfo=timezone.utc) - timedelta(hours=12)
        length_s = min(rng.choice((600, 3600, 43200, 86400 * 3, 86400 * 40, 86400 * 300)), bucket_s * 1500)
        off = rng.choice((3600, 600, 60, 1))  # seconds that the start is a multiple of
        start = begin + timedelta(seconds=rng.randrange(0, int(days * 86400), off))
        end = start + timedelta(seconds=length_s)
        kind = rng.random()
        if kind < 0.15:
            return f"{start:%Y-%m-%dT%H:%M:%S}Z/PT{int(length_s)}S"
        if kind < 0.25:
            zone = timezone(timedelta(hours=2))
            return f"{start.astimezone(zone).isoformat()}/{end.astimezone(zone).isoformat()}"
        if kind < 0.3 and bucket_s >= 60:
            return f"P1D/{end:%Y-%m-%dT%H:%M:%S}"
        if kind < 0.35 and bucket_s >= 1800:
            return f"{start:%Y-%m-%d}/{rng.choice(('P1M', 'P2W', 'P1DT6H'))}"
        if kind < 0.4:
            end = start + timedelta(seconds=rng.choice((0, 600)))
            return f"{start:%Y-%m-%dT%H:%M:%S}.500Z/{end:%Y-%m-%dT%H:%M:%S}.500Z"
        return f"{start:%Y-%m-%dT%H:%M:%S}.000Z/{end:%Y-%m-%dT%H:%M:%S}Z"
