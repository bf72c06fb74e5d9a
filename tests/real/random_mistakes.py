"""Ways to get a query wrong, one at a time; it must not know what Druid says of each."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable
from typing import Any

Query = dict[str, Any]
GRANULARITIES = (
    *("decade", 7, [], {}, {"type": "period"}, {"type": "period", "period": "x"}, {"type": "period", "period": "PT"}),
    *({"type": "duration"}, {"type": "duration", "duration": "long"}, {"type": "moon", "period": "P1D"}),
    {"type": "period", "period": "P1D", "origin": "yesterday"},
)
INTERVALS = (
    *("today", ["2026/1"], [3], "2026-03-02/2026-03-01", "2026-03-02", "2026-13-01/2026-14-01", {"type": "intervals"}),
    *("2026-03-01/P1X", ["2026-03-01/P1D", "x"], True),
)
FILTERS = (
    *({"type": "hunch"}, {"dimension": "a", "value": "b"}, "sensor", 5, [], {"type": "and"}, {"type": "not"}),
    *({"type": "or", "fields": []}, {"type": "selector"}, {"type": "in", "dimension": "a"}),
    *({"type": "bound", "dimension": "a"}, {"type": "like", "dimension": "a"}, {"type": "regex", "dimension": "a"}),
    {"type": "and", "fields": [{"type": "true"}, {"type": "guess"}]},
)
AGGREGATIONS = (
    *({"type": "vibe", "name": "a", "fieldName": "b"}, {"type": "longSum", "name": "a"}, {"type": "count"}, 3, "count"),
    *({"type": "longSum", "fieldName": "events"}, {"name": "a"}),
    *({"type": "filtered", "name": "a"}, {"type": "filtered", "aggregator": {"type": "count", "name": "n"}}),
    {"type": "filtered", "filter": {"type": "hunch"}, "aggregator": {"type": "count", "name": "n"}},
)
POSTS = (
    {"type": "arithmetic", "name": "p", "fn": "^", "fields": []},
    {"type": "arithmetic", "name": "p", "fn": "+", "fields": [{"type": "constant", "name": "c", "value": 1}]},
    {"type": "fieldAccess", "name": "p", "fieldName": "nowhere"},
    {"type": "divination", "name": "p"},
    {"type": "constant", "name": "a", "value": 1},  # as an aggregation is named
    5,
)
CONTEXTS = (
    *({"timeout": "soon"}, {"timeout": -5}, {"grandTotal": 1}),
    *({"uncoveredIntervalsLimit": "x"}, 3, "fast", []),
)
COUNT = {"type": "count", "name": "a"}

Wrong = Callable[[Query, random.Random], Any]
WRONGS: tuple[Wrong, ...] = (
    lambda q, rng: q.pop(rng.choice(("queryType", "dataSource", "intervals", "granularity"))),
    lambda q, rng: q.update(queryType=rng.choice(("wish", 3, None, {}))),
    lambda q, rng: q.update(dataSource=rng.choice((5, [], {}, {"type": "table"}, {"type": "cloud", "name": "x"}))),
    lambda q, rng: q.update(granularity=rng.choice(GRANULARITIES)),
    lambda q, rng: q.update(intervals=rng.choice(INTERVALS)),
    lambda q, rng: q.update(filter=rng.choice(FILTERS)),
    lambda q, rng: q.update(aggregations=[rng.choice(AGGREGATIONS)], postAggregations=[]),
    lambda q, rng: q.update(aggregations=rng.choice((2, "count", {"type": "count", "name": "n"})), postAggregations=[]),
    lambda q, rng: q.update(aggregations=2 * [COUNT], postAggregations=[]),
    lambda q, rng: q.update(aggregations=[COUNT], postAggregations=[rng.choice(POSTS)]),
    lambda q, rng: q.update(context=rng.choice(CONTEXTS)),
    lambda q, rng: q.update(limit=rng.choice(("many", -1, [1]))),
    lambda q, rng: q.update(descending=rng.choice(("maybe", [], {}))),
)
TOP_N_WRONGS: tuple[Wrong, ...] = (
    lambda q, rng: q.pop(rng.choice(("dimension", "metric", "threshold"))),
    lambda q, rng: q.update(threshold=rng.choice((0, -3, "few"))),
    lambda q, rng: q.update(metric=rng.choice(("nowhere", 5, {"type": "mood"}, {"type": "inverted"}))),
    lambda q, rng: q.update(dimension=rng.choice((5, {"type": "default"}, {"type": "sixth"}))),
)


def spoiled(query: Query, rng: random.Random) -> Any:
    """Give the query with one thing wrong in it; now and then a text that is no query at all."""
    query = copy.deepcopy(query)
    wrongs = TOP_N_WRONGS if query["queryType"] == "topN" else WRONGS
    rng.choice(wrongs)(query, rng)
    return rng.choice((*(query,) * 8, json.dumps(query)[:1], "[1]", "null", "{}", '"timeseries"', ""))
