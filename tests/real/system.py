"""The service as its users have it: `python -m outliers VERB` processes on the real servers, asked over HTTP.

It must not import the service: what it knows is what the contract promises from outside.
"""

from __future__ import annotations

import base64
import itertools
import json
import re
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import requests

from tests.real.servers.fleet import Sections, ini
from tests.real.servers.process import Process, free_ports, wait_until

ROOT = Path(__file__).parents[2]
Query = dict[str, Any]


@dataclass(frozen=True)
class Answer:
    status: int
    body: dict[str, Any]
    seconds: float

    @property
    def told(self) -> str:
        """One line of what the caller is told: the error's sentence, or the warnings."""
        return str(self.body.get("msg") or "; ".join(self.body.get("warnings", [])) or "right")

    @property
    def anomalies(self) -> list[dict[str, Any]]:
        return list(self.body["anomalies"])

    @property
    def prediction(self) -> list[dict[str, Any]]:
        return list(self.body["prediction"])


class System:
    """A configuration in a folder, and the processes that run with it."""

    def __init__(self, folder: Path, sections: Sections) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.sections = {name: dict(keys) for name, keys in sections.items()}
        self.config = folder / "config.ini"
        self.processes: list[Process] = []
        self._numbers = itertools.count()
        self.configure({})

    def configure(self, changes: Mapping[str, Mapping[str, object]]) -> None:
        """Set keys and write the file; running processes do not see it."""
        for section, keys in changes.items():
            self.sections.setdefault(section, {}).update(keys)
        self.config.write_text(ini(self.sections))

    def start(self, *verb: str) -> Process:
        """Start `rb-aioutliers VERB` with this configuration, as a process of its own."""
        log = self.folder / f"{next(self._numbers)}-{verb[0]}.log"
        command = [sys.executable, "-m", "outliers", "--config", str(self.config), *verb]
        process = Process(command, log, cwd=ROOT)
        process.start()
        self.processes.append(process)
        return process

    def run(self, *verb: str, timeout_s: float = 240) -> tuple[int, str]:
        """Run a verb to its end; its exit code and what it wrote."""
        process = self.start(*verb)
        code = process.wait(timeout_s)
        assert code is not None, f"{verb} still runs after {timeout_s} s\n{process.tail()}"
        process.close()
        return code, process.log.read_text()

    def serve(self) -> Executor:
        """Start an executor on a free port; it may not be ready yet."""
        (port,) = free_ports(1)
        where = {"outliers_binding_address": "127.0.0.1", "outliers_server_port": port}
        mirror = {"mirror": str(self.folder / f"mirror-{port}")}
        self.configure({"OutliersServerProduction": where, "Store": mirror})
        return Executor(self.start("serve"), f"http://127.0.0.1:{port}")

    def close(self) -> None:
        for process in self.processes:
            process.close()


@dataclass(frozen=True)
class Executor:
    process: Process
    url: str

    def wait_ready(self, timeout_s: float = 60) -> float:
        return wait_until(self.ready, timeout_s, "the executor", [self.process])

    def ready(self) -> bool:
        try:
            return requests.get(f"{self.url}/ready", timeout=5).ok
        except requests.RequestException:
            return False

    def models(self) -> dict[str, dict[str, Any]]:
        answer = requests.get(f"{self.url}/api/v1/models", timeout=5)
        return {each["name"]: each for each in answer.json()["models"]}

    def calculate(self, query: Query, timeout_s: float = 60, **fields: str) -> Answer:
        """Ask the documented way: a form with the query in base64."""
        text = base64.b64encode(json.dumps(query).encode()).decode()
        begin = time.monotonic()
        answer = requests.post(f"{self.url}/calculate", data={"query": text, **fields}, timeout=timeout_s)
        return Answer(answer.status_code, answer.json(), time.monotonic() - begin)

    def metrics(self) -> dict[str, float]:
        """Read the Prometheus text, one value for each sample."""
        lines = requests.get(f"{self.url}/metrics", timeout=5).text.splitlines()
        samples = (re.fullmatch(r"(\S+(?:\{.*\})?) (\S+)", each) for each in lines if not each.startswith("#"))
        return {each[1]: float(each[2]) for each in samples if each}


def flow_query(sensor: str, interval: str, granularity: Any = "minute") -> Query:
    """Ask for a sensor's traffic as the documented example does."""
    return {
        "queryType": "timeseries",
        "dataSource": "rb_flow",
        "granularity": granularity,
        "intervals": [interval],
        "filter": {"type": "selector", "dimension": "sensor_name", "value": sensor},
        "aggregations": [
            {"type": "longSum", "name": "bytes", "fieldName": "sum_bytes"},
            {"type": "longSum", "name": "pkts", "fieldName": "sum_pkts"},
            {"type": "longSum", "name": "flows", "fieldName": "events"},
            {"type": "hyperUnique", "name": "clients", "fieldName": "clients"},
        ],
    }


def utc(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def between(start_s: float, end_s: float) -> str:
    return f"{utc(start_s)}/{utc(end_s)}"


def seconds_of(timestamp: str) -> float:
    return datetime.fromisoformat(timestamp.replace("Z", "+00:00")).timestamp()
