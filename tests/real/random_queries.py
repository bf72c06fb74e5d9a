"""Random Druid queries, good and bad, over the random events; it must not know what the right answer is."""

from __future__ import annotations

import copy
import json
import random
from datetime import datetime, timedelta, timezone
from typing import Any

from tests.real.random_events import DAYS, SENSORS

Query = dict[str, Any]
SIMPLE = (
    *("second", "minute", "five_minute", "ten_minute", "fifteen_minute", "thirty_minute", "hour", "six_hour"),
    *("eight_hour", "day", "week", "month", "quarter", "year", "all", "MINUTE", "Hour"),
)
PERIODS = (
    *("PT45S", "PT1M", "PT5M", "pt15m", "PT1H", "PT1H30M", "PT6H", "PT12H"),
    *("P1D", "P2D", "P1W", "P2W", "P1M", "P3M", "P1Y", "P1DT6H"),
)
# Where such buckets cross midnight UTC, as in a zone of half an hour, Druid itself loses some of their events.
COMPOUND = ("PT1H30M", "P1DT6H")
# Not Singapore's, Nepal's or Lord Howe's: where the clock's minutes were others in 1970, buckets of several hours
# overlap and repeat in Druid itself, each segment with its own.
ZONES = (
    *("Europe/Madrid", "America/New_York", "Asia/Kolkata", "Australia/Adelaide", "America/Sao_Paulo"),
    *("UTC", "+05:30", "-03:00", "Nowhere/Town"),
)
ORIGINS = ("2026-03-01T02:00:00Z", "2026-10-25T00:30:00Z", "2027-01-15T00:00:00Z", "1970-01-01T00:00:07Z")
LONGS = ("sum_bytes", "sum_pkts", "events")
DOUBLES = ("sum_value", "max_value", "min_value")


def nominal_s(granularity: Any) -> float:
    """Guess the length of a bucket, to keep answers below some thousand rows."""
    if isinstance(granularity, str):
        names = {"second": 1, "minute": 60, "five_minute": 300, "ten_minute": 600, "fifteen_minute": 900}
        return names.get(granularity.lower(), 1800)
    if granularity["type"] == "duration":
        return float(granularity["duration"]) / 1000
    return {"PT45S": 45, "PT1M": 60, "PT5M": 300, "PT15M": 900}.get(granularity["period"].upper(), 1800)


def named(aggregation: Query) -> str:
    """Find the name of what an aggregation puts out; `filtered` has it inside."""
    return named(aggregation["aggregator"]) if "aggregator" in aggregation else str(aggregation["name"])


class Queries:
    """A source of random queries; the same seed gives the same ones."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)

    def good(self) -> Query:
        """Draw a query that Druid answers with 200."""
        kind = self.rng.choices((self.timeseries, self.top_n, self.time_boundary), (8, 2, 1))[0]
        return kind()

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
        if rng.random() < 0.7:
            query["filter"] = self.filter(monitor)
        if rng.random() < 0.4:
            query["postAggregations"] = self.post_aggregations(query["aggregations"])
        if rng.random() < 0.2:
            query["descending"] = True
        if rng.random() < 0.15:
            query["limit"] = rng.choice((1, 3, 50))
        context: Query = {}
        if rng.random() < 0.25:
            context["skipEmptyBuckets"] = True
        if rng.random() < 0.15:
            context["grandTotal"] = True
        if rng.random() < 0.15:
            context["uncoveredIntervalsLimit"] = 10
        if context:
            query["context"] = context
        return query

    def top_n(self) -> Query:
        rng = self.rng
        aggregations = [self.aggregation(False, name) for name in ("a", "b")]
        metric: Any = rng.choice(("a", "b"))
        if rng.random() < 0.3:
            metric = {"type": "inverted", "metric": metric}
        elif rng.random() < 0.2:
            metric = {"type": "dimension", "ordering": "lexicographic"}
        dimension = rng.choice(("sensor_name", "application_id_name", "lan_ip", "direction"))
        query: Query = {
            "queryType": "topN",
            "dataSource": "rb_flow",
            "granularity": rng.choice(("all", "hour", "day", {"type": "period", "period": "P1D"})),
            "intervals": self.intervals(3600),
            "dimension": dimension if rng.random() < 0.7 else self._dimension_spec(dimension),
            "metric": metric,
            "threshold": rng.choice((1, 3, 100)),
            "aggregations": aggregations,
        }
        if rng.random() < 0.5:
            query["filter"] = self.filter(False)
        return query

    @staticmethod
    def _dimension_spec(dimension: str) -> Query:
        return {"type": "default", "dimension": dimension, "outputName": "which"}

    def time_boundary(self) -> Query:
        query: Query = {"queryType": "timeBoundary", "dataSource": self.rng.choice(("rb_flow", "rb_monitor"))}
        if self.rng.random() < 0.6:
            query["bound"] = self.rng.choice(("minTime", "maxTime"))
        if self.rng.random() < 0.5:
            query["filter"] = self.filter(query["dataSource"] == "rb_monitor")
        return query

    def granularity(self) -> Any:
        rng = self.rng
        kind = rng.random()
        if kind < 0.4:
            return rng.choice(SIMPLE)
        if kind < 0.85:
            period: Query = {"type": "period", "period": rng.choice(PERIODS)}
            if period["period"] in COMPOUND:
                return period
            if rng.random() < 0.6:
                period["timeZone"] = rng.choice(ZONES)
            if rng.random() < 0.3:
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
        length_s = min(rng.choice((600, 3600, 43200, 86400 * 3, 86400 * 40)), bucket_s * 1500)
        off = rng.choice((3600, 600, 60, 1))  # seconds that the start is a multiple of
        start = begin + timedelta(seconds=rng.randrange(0, int(days * 86400), off))
        end = start + timedelta(seconds=length_s)
        if rng.random() < 0.15:
            return f"{start:%Y-%m-%dT%H:%M:%S}Z/PT{int(length_s)}S"
        if rng.random() < 0.1:
            zone = timezone(timedelta(hours=2))
            return f"{start.astimezone(zone).isoformat()}/{end.astimezone(zone).isoformat()}"
        return f"{start:%Y-%m-%dT%H:%M:%S}.000Z/{end:%Y-%m-%dT%H:%M:%S}Z"

    def filter(self, monitor: bool, depth: int = 2) -> Query:
        rng = self.rng
        if depth and rng.random() < 0.3:
            fields = [self.filter(monitor, depth - 1) for _ in range(rng.choice((1, 2, 3)))]
            return rng.choice(
                (
                    {"type": "and", "fields": fields},
                    {"type": "or", "fields": fields},
                    {"type": "not", "field": fields[0]},
                )
            )
        dimension, values = "sensor_name", list(SENSORS)
        if monitor and rng.random() < 0.5:
            dimension, values = "monitor", ["cpu", "memory", "disk"]
        elif not monitor and rng.random() < 0.4:
            dimension, values = "application_id_name", ["dns", "https", "HTTPS"]
        value = rng.choice(values)
        return rng.choice(
            (
                {"type": "selector", "dimension": dimension, "value": value},
                {"type": "selector", "dimension": dimension, "value": None},
                {"type": "equals", "column": dimension, "matchValueType": "STRING", "matchValue": value},
                {"type": "in", "dimension": dimension, "values": [value, rng.choice(values), "nobody"]},
                {"type": "in", "dimension": dimension, "values": [value, None]},
                {"type": "like", "dimension": dimension, "pattern": rng.choice(("%s", "h%", "_ranch%", "%"))},
                {"type": "regex", "dimension": dimension, "pattern": rng.choice(("^[hH]", "s$", "\\d", "a.?n"))},
                {"type": "bound", "dimension": dimension, "lower": "10", "upper": "h", "upperStrict": True},
                {"type": "bound", "dimension": dimension, "lower": "9", "ordering": "numeric"},
                {"type": "true"},
                {"type": "selector", "dimension": "no_such_dimension", "value": rng.choice((None, "x"))},
            )
        )

    def aggregations(self, monitor: bool) -> list[Query]:
        names = ["bytes", "pkts", "n", "worst", "clients"][: self.rng.choice((1, 2, 3, 5))]
        return [self.aggregation(monitor, name) for name in names]

    def aggregation(self, monitor: bool, name: str) -> Query:
        rng = self.rng
        if rng.random() < 0.2:
            inner = self.aggregation(monitor, name)
            return {"type": "filtered", "filter": self.filter(monitor, 1), "aggregator": inner}
        if rng.random() < 0.1:
            return {"type": "count", "name": name}
        if monitor:
            kind = rng.choice(("doubleSum", "doubleMin", "doubleMax"))
            return {"type": kind, "name": name, "fieldName": rng.choice((*DOUBLES, "events"))}
        if rng.random() < 0.15:
            return {"type": "hyperUnique", "name": name, "fieldName": "clients"}
        kind = rng.choice(("longSum", "longSum", "longMin", "longMax", "doubleSum", "doubleMin", "doubleMax"))
        return {"type": kind, "name": name, "fieldName": rng.choice((*LONGS, *LONGS, "no_such_column"))}

    def post_aggregations(self, aggregations: list[Query]) -> list[Query]:
        """Draw arithmetic over those aggregations that are numbers as they stand, and a distinct count's value."""
        rng = self.rng
        kinds = {named(each): each for each in aggregations}
        numbers = [name for name, each in kinds.items() if "hyperUnique" not in json.dumps(each)]
        result: list[Query] = []
        for name, each in kinds.items():
            if "hyperUnique" in json.dumps(each):
                result.append({"type": "hyperUniqueCardinality", "name": f"{name}_n", "fieldName": name})
        if numbers:
            access = {"type": "fieldAccess", "name": "x", "fieldName": rng.choice(numbers)}
            constant = {"type": "constant", "name": "c", "value": rng.choice((0, 8, 300, -1.5))}
            other = rng.choice((constant, {"type": "fieldAccess", "name": "y", "fieldName": rng.choice(numbers)}))
            inner = {"type": "arithmetic", "name": "i", "fn": rng.choice("*+-"), "fields": [access, constant]}
            fields = [rng.choice((access, inner)), other]
            result.append(
                {"type": "arithmetic", "name": "rate", "fn": rng.choice(("/", "quotient", "+")), "fields": fields}
            )
        return result

    def bad(self) -> Any:
        """Draw a query with one thing wrong in it; a text is sent as it stands."""
        rng = self.rng
        query = copy.deepcopy(self.timeseries())
        wrongs = [
            lambda q: q.pop("queryType"),
            lambda q: q.pop("dataSource"),
            lambda q: q.pop("intervals"),
            lambda q: q.pop("granularity"),
            lambda q: q.update(queryType="wish"),
            lambda q: q.update(
                granularity=rng.choice(("decade", {"type": "period", "period": "x"}, {"type": "period"}, 7))
            ),
            lambda q: q.update(intervals=rng.choice(("today", ["2026/1"], [3], "2026-03-02/2026-03-01"))),
            lambda q: q.update(filter=rng.choice(({"type": "hunch"}, {"dimension": "a", "value": "b"}, "sensor", 5))),
            lambda q: q.update(aggregations=[{"type": "vibe", "name": "a", "fieldName": "b"}]),
            lambda q: q.update(aggregations=[{"type": "longSum", "name": "a"}]),
            lambda q: q.update(aggregations=[{"type": "longSum", "fieldName": "events"}]),
            lambda q: q.update(aggregations=2 * [{"type": "count", "name": "twice"}]),
            lambda q: q.update(postAggregations=[{"type": "arithmetic", "name": "p", "fn": "^", "fields": []}]),
            lambda q: q.update(context={"timeout": rng.choice(("soon", -5))}),
            lambda q: q.update(limit="many"),
        ]
        rng.choice(wrongs)(query)
        return rng.choice((query, query, query, query, query, query, json.dumps(query)[:1], "[1]", "null", "{}"))
