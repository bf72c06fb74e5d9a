"""What `/openapi.json` says is what a running executor does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import requests

from outliers.druid.simulator import Simulator
from outliers.web.openapi import document
from tests.web.asking import base64_of, flow_query, rows
from tests.web.executor import Executor
from tests.web.recorded import cases

schemathesis = pytest.importorskip(
    "schemathesis", reason="schemathesis is not installed: the description is not tested"
)
from hypothesis import HealthCheck, given, settings  # noqa: E402
from schemathesis.specs.openapi.checks import positive_data_acceptance  # noqa: E402

OPERATIONS = sorted(o["operationId"] for path in document(False)["paths"].values() for o in path.values())
OPERATIONS.remove("openapi")  # schemathesis leaves out where it has the description from


@pytest.fixture(scope="module")
def executor(tmp_path_factory: pytest.TempPathFactory, simulator: Simulator) -> Iterator[Executor]:
    with Executor(tmp_path_factory.mktemp("described"), simulator.url) as running:
        yield running


@pytest.fixture(scope="module")
def described(executor: Executor) -> Any:
    return schemathesis.openapi.from_url(f"{executor.url}/openapi.json")


@pytest.mark.parametrize("operation_id", OPERATIONS)
def test_made_up_requests_get_described_answers(described: Any, operation_id: str):
    """Nothing that is made up from the description crashes, and every answer is one that it names."""
    operation = next(
        found.ok()
        for found in described.get_all_operations()
        if found.ok().definition.raw["operationId"] == operation_id
    )

    @settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None)
    @given(case=operation.as_strategy())
    def asked(case: Any) -> None:
        # what is of the right shape may still be refused: an empty text is no query, 'a' is no base64
        case.call_and_validate(excluded_checks=[positive_data_acceptance])

    asked()


@pytest.mark.parametrize("route", ["/calculate", "/api/v1/outliers"])
@pytest.mark.parametrize(
    "sent",
    [
        {"query": flow_query("2026-05-28T10:00:00Z", "2026-05-28T11:00:00Z")},
        {"query": flow_query("2026-05-28T10:00:00Z", "2026-05-28T11:00:00Z"), "metric": "any", "mode": "causal"},
        {"query": flow_query("2026-05-28T19:00:30Z", "2026-05-28T20:00:00Z")},
        {"data": rows([1.0] * 300 + [1000.0] + [1.0] * 50)},
        {"data": rows([None, 1.0, "NaN"] * 20)},
        {"data": []},
        {"data": rows([1.0]), "metric": "no-such"},
        {"query": cases()["monitor-cpu"]["query"]},
    ],
)
def test_real_answers_are_as_described(described: Any, executor: Executor, route: str, sent: dict):
    answer = requests.post(executor.url + route, json=sent)
    described[route]["POST"].validate_response(answer)
    if "query" in sent:
        form = requests.post(executor.url + route, data={**sent, "query": base64_of(sent["query"])})
        described[route]["POST"].validate_response(form)


def test_every_route_is_described(tmp_path):
    """The description names each route of the application, and no other."""
    from outliers.config import Config
    from outliers.web.app import Parts, create_app
    from outliers.web.metrics import Metrics

    parts = Parts(calculate=None, models=list, missing=str, turned_away=bool, metrics=Metrics())  # type: ignore[arg-type]
    routes = {rule.rule for rule in create_app(Config(), parts).url_map.iter_rules()}
    assert set(document(with_token=False)["paths"]) == routes - {"/"}
    assert "security" in document(with_token=True)
