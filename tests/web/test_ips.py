"""POST /api/v1/ip_identifier as the deployed service's clients ask it."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from flask.testing import FlaskClient

from outliers.web.app import Parts, create_app
from outliers.web.metrics import Metrics
from tests.web.asking import config_for, rows

ROUTE = "/api/v1/ip_identifier"
CALM = [1000.0 + i % 3 for i in range(30)]
PAYLOAD = {
    "outliers": [{"timestamp": "2026-05-01T00:20:00.000Z", "expected": 2001.0}, {"timestamp": "2026-05-01T02:00:00Z"}],
    "all_ips_data": {"10.0.0.1": rows(CALM), "10.0.0.2": rows([*CALM[:20], 90_000.0, *CALM[21:]])},
}


@pytest.fixture
def client() -> Iterator[FlaskClient]:
    parts = Parts(calculate=None, models=list, missing=str, turned_away=bool, metrics=Metrics())  # type: ignore[arg-type]
    with create_app(config_for(), parts).test_client() as client:
        yield client


def test_one_entry_for_each_outlier_in_order(client: FlaskClient):
    expected = {"ips": [{"caused_by": ["10.0.0.2"]}, {"caused_by": []}]}
    for answer in (
        client.post(ROUTE, data={"payload": json.dumps(PAYLOAD)}),
        client.post(ROUTE, json={"payload": PAYLOAD}),
        client.post(ROUTE, json=PAYLOAD),
    ):
        assert answer.status_code == 200 and answer.get_json() == expected


def test_nothing_asked_is_nothing_answered(client: FlaskClient):
    assert client.post(ROUTE, json={"outliers": [], "all_ips_data": {}}).get_json() == {"ips": []}


def test_more_addresses_at_more_times_than_are_served_are_refused(client: FlaskClient):
    """Each row has a time of its own: the values grow with the square of what is sent."""
    many = 2_000
    sent = {
        "outliers": [],
        "all_ips_data": {
            f"a{i}": [{"timestamp": f"2026-05-01T{i // 60 % 24:02d}:{i % 60:02d}:{i // 1440:02d}Z", "result": {}}]
            for i in range(many)
        },
    }
    answer = client.post(ROUTE, json=sent)
    assert answer.status_code == 400 and f"{many} addresses at {many} times" in answer.get_json()["error"]


@pytest.mark.parametrize(
    "sent",
    [
        {"data": {}},
        {"data": {"payload": "{"}},
        {"data": {"payload": "[]"}},
        {"json": {"outliers": [], "all_ips_data": []}},
        {"json": {"outliers": [{}], "all_ips_data": {}}},
        {"json": {"outliers": [], "all_ips_data": {"10.0.0.1": 5}}},
        {"json": {"outliers": [], "all_ips_data": {"10.0.0.1": [{"timestamp": 5}]}}},
        {"json": {"outliers": [{"timestamp": "soon"}], "all_ips_data": {}}},
    ],
)
def test_what_is_wrong_is_said_under_error(client: FlaskClient, sent: dict):
    answer = client.post(ROUTE, **sent)
    assert answer.status_code == 400 and len(answer.get_json()["error"]) > 10


def test_missing_or_odd_amounts_are_nothing(client: FlaskClient):
    odd = [{"timestamp": row["timestamp"], "result": {"bytes": value}}
           for row, value in zip(rows(CALM), [None, "NaN", True, {}, *CALM[4:]])]  # fmt: skip
    odd[5] = {"timestamp": odd[5]["timestamp"]}
    answer = client.post(ROUTE, json={"outliers": PAYLOAD["outliers"], "all_ips_data": {"10.0.0.1": odd}})
    assert answer.status_code == 200
