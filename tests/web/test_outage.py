"""A long outage of a sensor that is never silent: it is told as one, and does not become what is expected."""

from __future__ import annotations

import pytest
import requests

from outliers.druid.simulator import Simulator
from outliers.druid.traffic import FLOW_AGGREGATIONS
from tests.web.asking import SENSOR, Asking, flow_query

OUTAGE = range(600, 900)  # rows of the day that are taken out: five hours


@pytest.mark.parametrize("mode", ["whole", "causal"])
def test_a_long_outage_is_down_all_along_and_is_not_what_is_expected(
    of_simulator: Asking, simulator: Simulator, mode: str
):
    query = flow_query("2026-05-26T00:00Z", "2026-05-27T00:00Z", aggregations=[dict(a) for a in FLOW_AGGREGATIONS])
    told = requests.post(simulator.url, json=query, timeout=30).json()
    usual = sorted(row["result"]["bytes"] for i, row in enumerate(told) if i in OUTAGE)[len(OUTAGE) // 2]
    silent = [{**row, "result": dict.fromkeys(row["result"], 0)} if i in OUTAGE else row for i, row in enumerate(told)]
    undisturbed = of_simulator(query=query, data=told, model=SENSOR, metric="bytes", mode=mode)
    answer = of_simulator(query=query, data=silent, model=SENSOR, metric="bytes", mode=mode)
    assert answer["model"]["kind"] == "autoencoder"
    rows = answer["prediction"][OUTAGE.start : OUTAGE.stop]
    flagged = {row["timestamp"]: row for row in answer["anomalies"]}
    down = [row["timestamp"] in flagged and flagged[row["timestamp"]]["direction"] == "down" for row in rows]
    assert sum(down) >= 0.98 * len(rows)
    assert min(row["forecast"] for row in rows) > 0.3 * usual
    around = {row["timestamp"] for row in told[: OUTAGE.start - 5] + told[OUTAGE.stop + 5 :]}
    more = around & flagged.keys() - {row["timestamp"] for row in undisturbed["anomalies"]}
    assert len(more) <= 5
