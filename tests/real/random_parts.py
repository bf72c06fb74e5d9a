"""Random filters, aggregations and post-aggregations over the random events; knows neither buckets nor answers."""

from __future__ import annotations

import json
import random
from typing import Any

from tests.real.random_events import SENSORS

Query = dict[str, Any]
LONGS = ("sum_bytes", "sum_pkts", "events")
DOUBLES = ("sum_value", "max_value", "min_value")
EXPRESSIONS = (
    *("sum_bytes * 8", "sum_bytes / events", "sum_pkts - events", "sum_bytes + 0.5", "events % 3"),
    *("if(sum_pkts > 500, sum_bytes, 0)", "nvl(sum_pkts, -1)", "(sum_pkts > 100) && (events < 5)"),
)


def named(aggregation: Query) -> str:
    """Find the name of what an aggregation puts out; `filtered` without one has it inside."""
    return str(aggregation.get("name") or named(aggregation["aggregator"]))


def counts_distinct(part: Query) -> bool:
    """Whether an aggregation estimates."""
    return any(kind in json.dumps(part) for kind in ("hyperUnique", '"cardinality"'))


class Parts:
    """A source of random parts of queries; the same seed gives the same ones."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)

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
        if rng.random() < 0.25:
            return self._filter_on_numbers(monitor)
        dimension, values = "sensor_name", list(SENSORS)
        if monitor and rng.random() < 0.5:
            dimension, values = "monitor", ["cpu", "memory", "disk"]
        elif not monitor and rng.random() < 0.4:
            dimension, values = "application_id_name", ["dns", "https", "HTTPS"]
        return self._filter_on_texts(dimension, values)

    def _filter_on_texts(self, dimension: str, values: list[str]) -> Query:
        rng, value = self.rng, self.rng.choice(values)
        upper = {"type": "upper"}
        return rng.choice(
            (
                {"type": "selector", "dimension": dimension, "value": value},
                {"type": "selector", "dimension": dimension, "value": None},
                {"type": "selector", "dimension": dimension, "value": "HTTPS", "extractionFn": upper},
                {"type": "equals", "column": dimension, "matchValueType": "STRING", "matchValue": value},
                {"type": "null", "column": dimension},
                {"type": "in", "dimension": dimension, "values": [value, rng.choice(values), "nobody"]},
                {"type": "in", "dimension": dimension, "values": [value, None]},
                {"type": "like", "dimension": dimension, "pattern": rng.choice(("%s", "h%", "_ranch%", "%", "%\\%"))},
                {"type": "regex", "dimension": dimension, "pattern": rng.choice(("^[hH]", "s$", "\\d", "a.?n"))},
                {"type": "search", "dimension": dimension, "query": self._search()},
                {"type": "bound", "dimension": dimension, "lower": "10", "upper": "h", "upperStrict": True},
                {"type": "bound", "dimension": dimension, "lower": "9", "ordering": "numeric"},
                {"type": "bound", "dimension": dimension, "upper": "c", "ordering": "strlen"},
                {"type": "range", "column": dimension, "matchValueType": "STRING", "lower": "b", "lowerOpen": True},
                {"type": "true"},
                {"type": "false"},
                {"type": "selector", "dimension": "no_such_dimension", "value": rng.choice((None, "x"))},
            )
        )

    def _search(self) -> Query:
        kind = self.rng.choice(("contains", "insensitive_contains"))
        return {"type": kind, "value": self.rng.choice(("N", "ht", "7")), "caseSensitive": self.rng.random() < 0.5}

    def _filter_on_numbers(self, monitor: bool) -> Query:
        rng = self.rng
        column = rng.choice(DOUBLES if monitor else LONGS)
        return rng.choice(
            (
                {"type": "bound", "dimension": column, "lower": "5", "upper": "500", "ordering": "numeric"},
                {"type": "range", "column": column, "matchValueType": "LONG", "lower": 7, "upperOpen": True},
                {"type": "expression", "expression": f"{column} > 40"},
                {"type": "null", "column": column},
                {"type": "interval", "dimension": "__time", "intervals": ["2026-03-07T12:00Z/2026-10-31T06:00Z"]},
            )
        )

    def aggregations(self, monitor: bool) -> list[Query]:
        # No column's name: over no segment Druid takes what is so named for the column that the next one reads.
        names = ["bytes", "pkts", "n", "worst", "hosts"][: self.rng.choice((0, 1, 2, 3, 3, 5, 5))]
        return [self.aggregation(monitor, name) for name in names]

    def aggregation(self, monitor: bool, name: str) -> Query:
        rng = self.rng
        if rng.random() < 0.25:
            inner = self.aggregation(monitor, name)
            filtered: Query = {"type": "filtered", "filter": self.filter(monitor, 1), "aggregator": inner}
            return {**filtered, "name": name} if rng.random() < 0.3 else filtered
        if rng.random() < 0.1:
            return {"type": "count", "name": name}
        if rng.random() < 0.08:
            # Not over `sensor_name`: whether Druid counts an empty text depends on what it merges.
            fields = ["monitor"] if monitor else rng.choice((["lan_ip"], ["application_id_name", "direction"]))
            return {"type": "cardinality", "name": name, "fields": fields, "byRow": False}
        if monitor:
            kind = rng.choice(("doubleSum", "doubleMin", "doubleMax"))
            return {"type": kind, "name": name, "fieldName": rng.choice((*DOUBLES, "events"))}
        if rng.random() < 0.15:
            return {"type": "hyperUnique", "name": name, "fieldName": "clients"}
        kind = rng.choice(("longSum", "longSum", "longMin", "longMax", "doubleSum", "doubleMin", "doubleMax"))
        if rng.random() < 0.12:
            return {"type": kind, "name": name, "expression": rng.choice(EXPRESSIONS)}
        return {"type": kind, "name": name, "fieldName": rng.choice((*LONGS, *LONGS, "no_such_column", "sensor_name"))}

    def post_aggregations(self, aggregations: list[Query]) -> list[Query]:
        """Draw arithmetic over those aggregations that are numbers as they stand, and distinct counts' values."""
        kinds = {named(each): each for each in aggregations}
        numbers = [name for name, each in kinds.items() if not counts_distinct(each)]
        result: list[Query] = []
        for name, each in kinds.items():
            if counts_distinct(each):
                kind = self.rng.choice(("hyperUniqueCardinality", "finalizingFieldAccess"))
                result.append({"type": kind, "name": f"{name}_n", "fieldName": name})
        if numbers:
            distinct = [{**each, "type": "finalizingFieldAccess"} for each in result[:1]]
            result += [self._arithmetic(f"p{i}", numbers, distinct) for i in range(self.rng.choice((1, 2)))]
            if self.rng.random() < 0.3:
                result.append(self._chosen("best", numbers))
        return result

    def _arithmetic(self, name: str, numbers: list[str], distinct: list[Query]) -> Query:
        rng = self.rng
        x, y = ({"type": "fieldAccess", "name": each, "fieldName": rng.choice(numbers)} for each in "xy")
        constant = {"type": "constant", "name": "c", "value": rng.choice((0, 0, 8, 300, -1.5))}
        nothing = {"type": "arithmetic", "name": "z", "fn": "-", "fields": [x, x]}
        inner = {"type": "arithmetic", "name": "i", "fn": rng.choice("*+-"), "fields": [x, constant]}
        fields = [rng.choice((x, inner, constant)), rng.choice((constant, y, nothing, *distinct))]
        if rng.random() < 0.2:
            fields.append(y)
        return {
            "type": "arithmetic",
            "name": name,
            "fn": rng.choice(("/", "quotient", "+", "-", "*")),
            "fields": fields,
        }

    def _chosen(self, name: str, numbers: list[str]) -> Query:
        kind = self.rng.choice(("doubleGreatest", "doubleLeast", "longGreatest", "longLeast"))
        fields = [
            {"type": "fieldAccess", "name": "x", "fieldName": self.rng.choice(numbers)},
            {"type": "constant", "name": "c", "value": self.rng.choice((0, 100))},
        ]
        return {"type": kind, "name": name, "fields": fields}
