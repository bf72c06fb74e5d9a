"""Loads files of events into a Druid and waits until they are answered; it must not know whose Druid it is."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from tests.real.servers.process import NotReady, wait_until

COUNTED = "_loaded"  # a metric of our own: how many events a row was rolled up from


@dataclass(frozen=True)
class Loader:
    """The coordinator (with the overlord in it) takes the work, the broker shows that it is done."""

    coordinator_url: str
    broker_url: str

    def load(
        self,
        data_source: str,
        events: Path,
        dimensions: Sequence[str],
        metrics: Sequence[Mapping[str, str]],
        count: int,
    ) -> float:
        """Load `events` (.jsonl.gz, `count` of them) in place of what their days held; the seconds it took."""
        begin = time.monotonic()
        spec = ingestion(data_source, events, dimensions, [*metrics, {"type": "count", "name": COUNTED}])
        answer = requests.post(f"{self.coordinator_url}/druid/indexer/v1/task", json=spec, timeout=30)
        answer.raise_for_status()
        task = answer.json()["task"]
        wait_until(lambda: self._done(task), 180, f"loading {data_source}")
        wait_until(lambda: self._loaded(data_source) == count, 60, f"{data_source} at the broker")
        return time.monotonic() - begin

    def _done(self, task: str) -> bool:
        answer = requests.get(f"{self.coordinator_url}/druid/indexer/v1/task/{task}/status", timeout=10)
        answer.raise_for_status()
        status = answer.json()["status"]
        if status["status"] == "FAILED":
            raise NotReady(f"loading: {status.get('errorMsg')}")
        return bool(status["status"] == "SUCCESS")

    def _loaded(self, data_source: str) -> int:
        query = {
            "queryType": "timeseries",
            "dataSource": data_source,
            "intervals": ["1970/2100"],
            "granularity": "all",
            "aggregations": [{"type": "longSum", "name": COUNTED, "fieldName": COUNTED}],
        }
        answer = requests.post(f"{self.broker_url}/druid/v2/", json=query, timeout=10)
        rows = answer.json() if answer.ok else []
        return int(rows[0]["result"][COUNTED] or 0) if rows else 0


def ingestion(
    data_source: str, events: Path, dimensions: Sequence[str], metrics: Sequence[Mapping[str, str]]
) -> dict[str, Any]:
    """Describe to the overlord how a file of events becomes a data source."""
    granularity = {"segmentGranularity": "day", "queryGranularity": "minute", "rollup": True}
    source = {"type": "local", "baseDir": str(events.parent.resolve()), "filter": events.name}
    return {
        "type": "index",
        "spec": {
            "ioConfig": {
                "type": "index",
                "inputSource": source,
                "inputFormat": {"type": "json"},
                "appendToExisting": False,
            },
            "dataSchema": {
                "dataSource": data_source,
                "timestampSpec": {"column": "timestamp", "format": "iso"},
                "dimensionsSpec": {"dimensions": list(dimensions)},
                "metricsSpec": list(metrics),
                "granularitySpec": granularity,
            },
            "tuningConfig": {
                "type": "index",
                "maxRowsInMemory": 200000,
                "partitionsSpec": {"type": "dynamic"},
            },
        },
    }
