"""The simulator against a real Druid's recorded answers: status, error class, rows, uncovered time.

`cases.jsonl.gz`: 126 queries (Druid 33.0.0, its defaults). `more_cases.jsonl.gz`: further ones over the same events and
from the same version, of what those leave open: filters in three-valued logic, expressions, ordering, segments' edges.
"""

from __future__ import annotations

import gzip
import json
import math
from typing import Any

import pytest
import requests

from outliers.druid.simulator import Simulator
from tests.druid.conftest import DATA


def cases_of(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in gzip.decompress((DATA / name).read_bytes()).splitlines()]


CASES = cases_of("cases.jsonl.gz")
MORE = cases_of("more_cases.jsonl.gz")


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


@pytest.mark.parametrize("case", [*CASES, *MORE], ids=[case["name"] for case in [*CASES, *MORE]])
def test_recorded_case_is_answered_as_druid_did(recorded: Simulator, case: dict[str, Any]) -> None:
    query = case["query"]
    body = query if isinstance(query, str) else json.dumps(query)
    answer = requests.post(recorded.url, body.encode(), headers={"Content-Type": "application/json"}, timeout=30)
    expected = json.loads(case["body"])
    assert answer.status_code == case["status"]
    assert answer.headers["Content-Type"] == case["content_type"]
    if "context" in case:
        told, said = (json.loads(text) for text in (case["context"], answer.headers["X-Druid-Response-Context"]))
        keys = ("uncoveredIntervals", "uncoveredIntervalsOverflowed")
        assert [told.get(key) for key in keys] == [said.get(key) for key in keys]
    if case["status"] == 200:
        assert same(expected, answer.json())
    else:
        told = answer.json()
        assert {key: told.get(key) for key in ("error", "errorClass")} == {
            key: expected.get(key) for key in ("error", "errorClass")
        }
