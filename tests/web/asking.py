"""Asking the engine as a caller would, and what every answer must hold to."""

from __future__ import annotations

import base64
import dataclasses
import json
from pathlib import Path
from typing import Any, Optional

from outliers.config import Config
from outliers.infer.cache import Models
from outliers.times import instant_text, parse_instant_ms
from outliers.web.answer import as_json
from outliers.web.calculate import Context, calculate, open_context
from outliers.web.payload import from_fields

DATA = Path(__file__).parents[1] / "data"
# Of the simulator at seed 1; DATA has a model of it: `simulate --seed 1`, `train hq-madrid`, copied from latest/.
SENSOR = "hq-madrid"
NOW = "2026-05-28T20:00:00Z"


def config_for(endpoint: str = "", **sections: dict[str, Any]) -> Config:
    """A configuration with some fields of some sections changed."""
    config = Config()
    if endpoint:
        sections["druid"] = {"endpoint": endpoint, **sections.get("druid", {})}
    changed = {name: dataclasses.replace(getattr(config, name), **fields) for name, fields in sections.items()}
    return dataclasses.replace(config, **changed)


class Asking:
    """A context, and questions to it as a caller would send them; answers as a caller would read them."""

    def __init__(self, config: Config, models: Models, now: str) -> None:
        self.now_s = parse_instant_ms(now) / 1000
        self.context: Context = open_context(config, models, clock=lambda: self.now_s)

    def __call__(self, **fields: Any) -> dict[str, Any]:
        must_exist = fields.pop("must_exist", True)
        answer = calculate(from_fields(fields), self.context, must_exist)
        read: dict[str, Any] = json.loads(as_json(answer))
        check_promises(read)
        return read


def check_promises(answer: dict[str, Any]) -> None:
    """Hold an answer to what CONTRACT §2 promises of every answer."""
    anomalies = {row["timestamp"]: row for row in answer["anomalies"]}
    assert len(anomalies) == len(answer["anomalies"]), "one row a timestamp"
    for row in answer["prediction"]:
        flagged = anomalies.get(row["timestamp"])
        assert (flagged is not None) == (row["score"] is not None and row["score"] >= 1)
        if row["score"] is not None:
            assert row["score"] >= 0
        lower, upper, forecast = row["lower"], row["upper"], row["forecast"]
        if forecast is not None:
            assert (lower is None or lower <= forecast) and (upper is None or forecast <= upper)
        if flagged is not None:
            outside = (lower is not None and flagged["actual"] < lower) or (
                upper is not None and flagged["actual"] > upper
            )
            assert outside != flagged["carried"]
            assert flagged["score"] == row["score"] and flagged["expected"] == forecast
            if flagged["actual"] == forecast == 0:  # down, where the metric cannot be negative
                assert flagged["direction"] in ("up", "down")
            else:
                assert forecast is None or flagged["direction"] == ("up" if flagged["actual"] >= forecast else "down")


def flow_query(
    start: str, end: str, sensor: Optional[str] = SENSOR, granularity: Any = "minute", **more: Any
) -> dict[str, Any]:
    """A query for the bytes of one sensor's traffic, or of all."""
    query: dict[str, Any] = {
        "queryType": "timeseries",
        "dataSource": "rb_flow",
        "granularity": granularity,
        "intervals": [f"{start}/{end}"],
        "aggregations": [{"type": "longSum", "name": "bytes", "fieldName": "sum_bytes"}],
    }
    if sensor is not None:
        query["filter"] = {"type": "selector", "dimension": "sensor_name", "value": sensor}
    return {**query, **more}


def rows(values: list[Any], start: str = "2026-05-01T00:00:00Z", step_s: int = 60, name: str = "bytes") -> list[Any]:
    """Rows of one metric as Druid writes them."""
    first_ms = parse_instant_ms(start)
    return [
        {"timestamp": instant_text(first_ms + i * step_s * 1000), "result": {name: value}}
        for i, value in enumerate(values)
    ]


def base64_of(value: Any) -> str:
    return base64.b64encode(json.dumps(value).encode()).decode()
