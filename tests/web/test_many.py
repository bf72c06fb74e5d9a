"""Many questions that nobody thought of: every answer keeps the contract's promises, every refusal is one of ours."""

from __future__ import annotations

import random
from typing import Any

import pytest

from outliers.druid.traffic import FLOW_AGGREGATIONS
from outliers.errors import OutliersError, Unservable
from outliers.times import instant_text, parse_instant_ms
from tests.web.asking import NOW, Asking, flow_query, rows

SENSORS = ("datacenter-1", "hq-madrid", "campus-lima", "new-office", "quiet-lab", "warehouse", "nobody", None)
GRANULARITIES: tuple[Any, ...] = (
    "minute", "five_minute", "hour", "six_hour", "day", "week", "second",
    {"type": "period", "period": "PT1H", "timeZone": "Europe/Madrid"},
    {"type": "period", "period": "P1D", "timeZone": "Europe/Madrid"},
    {"type": "period", "period": "P1M"},
    {"type": "duration", "duration": 420_000},
)  # fmt: skip
VALUES: tuple[Any, ...] = (0, -1, 1e308, 2**70, None, "NaN", "Infinity", "", True, [], {}, "5")


def question(chance: random.Random) -> dict[str, Any]:
    now_s = parse_instant_ms(NOW) / 1000
    granularity = chance.choice(GRANULARITIES)
    step_s = {"minute": 60, "five_minute": 300, "second": 1}.get(str(granularity), 3600)
    end_s = now_s - chance.choice((-7200, 0, 30, 3600, 86_400, 6 * 86_400, 40 * 86_400)) - chance.choice((0, 0, 17))
    start_s = end_s - chance.choice((0, 1, 3, 60, 300)) * step_s
    query = flow_query("2026-01-01", "2026-01-02", chance.choice(SENSORS), granularity)
    query["intervals"] = [f"{instant_text(int(start_s * 1000))}/{instant_text(int(end_s * 1000))}"]
    query["aggregations"] = [dict(a) for a in chance.sample(FLOW_AGGREGATIONS, chance.randint(0, 4))]
    query["context"] = {"skipEmptyBuckets": chance.random() < 0.3, "grandTotal": chance.random() < 0.3}
    query["descending"] = chance.random() < 0.3
    if chance.random() < 0.2:
        query["limit"] = chance.randint(1, 50)
    asked: dict[str, Any] = {"query": query}
    for name, values in (
        ("metric", ("any", "bytes", "bps", "nope")), ("mode", ("causal",)), ("k", (0.3, 1, 9)),
        ("lead_in", ("none", "PT1H", "P1M")), ("model", ("hq-madrid",)),
    ):  # fmt: skip
        if chance.random() < 0.3:
            asked[name] = chance.choice(values)
    return asked


@pytest.mark.parametrize("seed", range(4))
def test_any_query_is_answered_or_refused_in_our_words(of_simulator: Asking, seed: int):
    chance = random.Random(seed)
    answered = 0
    for _ in range(30):
        try:
            of_simulator(**question(chance))  # check_promises is in the asking
            answered += 1
        except OutliersError as error:  # noqa: PERF203
            assert len(str(error)) > 10
    assert answered > 5


def odd_row(chance: random.Random) -> Any:
    if chance.random() < 0.004:
        return chance.choice((None, 5, [], {}, {"timestamp": "x", "result": {}}, {"timestamp": "2026-05-01T00:00:00Z"}))
    at = f"2026-05-01T{chance.randint(0, 5):02}:{chance.randint(0, 59):02}:00.000Z"
    names = chance.sample(("bytes", "pkts", "x", ""), chance.randint(0, 4))
    return {"timestamp": at, "result": {n: chance.choice(VALUES) if chance.random() < 0.2 else 5.5 for n in names}}


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("seed", range(4))
def test_any_rows_are_answered_or_refused_in_our_words(of_simulator: Asking, seed: int):
    chance = random.Random(seed)
    answered = 0
    for _ in range(60):
        asked: dict[str, Any] = {"data": [odd_row(chance) for _ in range(chance.choice((0, 1, 2, 30, 150)))]}
        for name, values in (("metric", ("any", "bytes", "pps")), ("mode", ("causal",)), ("model", ("hq-madrid",))):
            if chance.random() < 0.3:
                asked[name] = chance.choice(values)
        try:
            of_simulator(**asked)
            answered += 1
        except OutliersError as error:
            assert len(str(error)) > 10
    assert answered > 10


def test_a_query_without_aggregations_is_answered_with_a_warning(of_simulator: Asking):
    query = flow_query("2026-05-28T10:00:00Z", "2026-05-28T11:00:00Z", sensor="warehouse", aggregations=[])
    answer = of_simulator(query=query)
    assert answer["prediction"] == [] and any("no aggregations" in warning for warning in answer["warnings"])


def test_a_metric_that_the_model_knows_and_the_rows_lack_is_refused(of_simulator: Asking):
    with pytest.raises(Unservable, match="'bytes' is not in the rows; the model 'hq-madrid' cannot answer"):
        of_simulator(data=rows([1.0, 2.0], name="pkts"), metric="bytes", model="hq-madrid")
