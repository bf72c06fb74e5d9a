"""The simulator's sensors as labelled series: asked over HTTP as a broker is; knows nothing of detectors."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import requests

from benchmarks.labelled import Labelled, iso_step
from outliers.druid.simulator import Simulator
from outliers.series import Series

NOW = 1_772_409_600  # a Monday midnight, UTC
DAY_S = 86_400
SENSORS = ("hq-madrid", "branch-lyon", "branch-oslo", "datacenter-1", "campus-lima", "quiet-lab", "warehouse")
FIELDS = {"bytes": "sum_bytes", "pkts": "sum_pkts", "flows": "events"}


def read_simulator(days: int = 28, step_s: int = 300, several: bool = False, seed: int = 0) -> Iterator[Labelled]:
    """Each sensor's `bytes` (or bytes, pkts and flows) over the last `days`, with what was injected as labels."""
    metrics = tuple(FIELDS) if several else ("bytes",)
    start = NOW - days * DAY_S
    with Simulator(seed=seed, now=float(NOW)) as simulator:
        for sensor in SENSORS:
            rows = requests.post(simulator.url, json=_query(sensor, start, step_s, metrics), timeout=300).json()
            values = np.array([[row["result"].get(name) or 0 for name in metrics] for row in rows], dtype=np.float64)
            timestamps = start + step_s * np.arange(len(rows))
            label = np.zeros(len(rows), np.bool_)
            for injected in simulator.labels(start, NOW, sensor):
                label |= (timestamps + step_s > injected.start_s) & (timestamps < injected.end_s)
            series = Series(timestamps, values, metrics, iso_step(step_s), step_s)
            yield Labelled("simulator", f"{sensor} {series.granularity}", series, np.arange(len(rows)), label)


def _query(sensor: str, start: int, step_s: int, metrics: tuple[str, ...]) -> dict[str, object]:
    def iso(second: int) -> str:
        return f"{np.datetime64(second, 's')}Z"

    return {
        "queryType": "timeseries",
        "dataSource": "rb_flow",
        "granularity": {"type": "period", "period": iso_step(step_s)},
        "filter": {"type": "selector", "dimension": "sensor_name", "value": sensor},
        "aggregations": [{"type": "longSum", "name": name, "fieldName": FIELDS[name]} for name in metrics],
        "intervals": [f"{iso(start)}/{iso(NOW)}"],
    }
