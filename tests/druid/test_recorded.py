"""The simulator against a real Druid's recorded answers to 126 queries: status, error class, rows."""

from __future__ import annotations

import gzip
import json
import math
from typing import Any

import pytest
import requests

from outliers.druid.simulator import Simulator
from tests.druid.conftest import DATA

CASES = [json.loads(line) for line in gzip.decompress((DATA / "cases.jsonl.gz").read_bytes()).splitlines()]


def same(recorded: Any, simulated: Any) -> bool:
    """Texts and whole numbers exactly, floats as far as the order of a sum allows; estimates are Druid's own too."""
    if isinstance(recorded, dict) and isinstance(simulated, dict):
        return recorded.keys() == simulated.keys() and all(same(v, simulated[k]) for k, v in recorded.items())
    if isinstance(recorded, list) and isinstance(simulated, list):
        return len(recorded) == len(simulated) and all(map(same, recorded, simulated))
    if isinstance(recorded, float) and isinstance(simulated, float):
        return math.isclose(recorded, simulated, rel_tol=1e-9)
    return type(recorded) is type(simulated) and bool(recorded == simulated)


def test_all_recorded_cases_are_here() -> None:
    assert len(CASES) == 126


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_recorded_case_is_answered_as_druid_did(recorded: Simulator, case: dict[str, Any]) -> None:
    query = case["query"]
    body = query if isinstance(query, str) else json.dumps(query)
    answer = requests.post(recorded.url, body.encode(), headers={"Content-Type": "application/json"}, timeout=30)
    expected = json.loads(case["body"])
    assert answer.status_code == case["status"]
    assert answer.headers["Content-Type"] == case["content_type"]
    if case["status"] == 200:
        assert same(expected, answer.json())
    else:
        told = answer.json()
        assert {key: told.get(key) for key in ("error", "errorClass")} == {
            key: expected.get(key) for key in ("error", "errorClass")
        }
