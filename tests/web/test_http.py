"""The routes of a running executor: dialects, codes, token, readiness, metrics, description."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from outliers.druid.simulator import Simulator
from tests.web.asking import DATA, SENSOR, base64_of, check_promises, flow_query, rows
from tests.web.executor import Executor

HOUR = ("2026-05-28T10:00:00Z", "2026-05-28T11:00:00Z")
SIMPLE = rows([float(i % 7) for i in range(60)])


@pytest.fixture(scope="module")
def executor(tmp_path_factory: pytest.TempPathFactory, simulator: Simulator) -> Iterator[Executor]:
    folder = tmp_path_factory.mktemp("executor")
    running = Executor(folder, simulator.url, Limits={"body_kb": 512}, Detection={"stale_s": 1e9})
    latest = running.store / "latest"
    latest.mkdir(parents=True)
    shutil.copy(DATA / f"{SENSOR}.onnx", latest)
    with running:
        yield running


def test_both_dialects_say_the_same_under_their_own_name(executor: Executor):
    query = {"query": base64_of(flow_query(*HOUR))}
    new = requests.post(f"{executor.url}/calculate", data=query)
    old = requests.post(f"{executor.url}/api/v1/outliers", data=query)
    assert (new.status_code, old.status_code) == (200, 200)
    assert new.headers["Content-Type"] == "application/json"
    answer, before = new.json(), old.json()
    check_promises(answer)
    assert answer["model"]["name"] == SENSOR and len(answer["prediction"]) == 60
    assert before.pop("predicted") == answer.pop("prediction") and before == answer


def test_form_and_json_are_answered_alike(executor: Executor):
    query = flow_query(*HOUR)
    answers = [
        requests.post(f"{executor.url}/calculate", data={"query": base64_of(query), "k": "1.5"}).json(),
        requests.post(f"{executor.url}/calculate", json={"query": query, "k": 1.5}).json(),
        requests.post(f"{executor.url}/calculate", json={"query": base64_of(query), "k": "1.5"}).json(),
    ]
    assert answers[0] == answers[1] == answers[2] and answers[0]["status"] == "success"


@pytest.mark.parametrize(
    ("code", "sent"),
    [
        (400, {"data": {"query": "%%%"}}),
        (400, {"data": {}}),
        (400, {"json": {"data": SIMPLE, "k": 0}}),
        (400, {"data": b"{", "headers": {"Content-Type": "application/json"}}),
        (422, {"json": {"data": SIMPLE, "model": "no-such"}}),
        (422, {"json": {"data": SIMPLE, "metric": "no-such"}}),
        (422, {"json": {"query": {**flow_query(*HOUR), "granularity": "all"}}}),
        (415, {"data": b"<query/>", "headers": {"Content-Type": "application/xml"}}),
        (415, {"data": b"query"}),
        (413, {"data": b"query=" + b"A" * 600_000, "headers": {"Content-Type": "application/x-www-form-urlencoded"}}),
    ],
)
def test_errors_of_calculate_have_their_code_and_a_sentence(executor: Executor, code: int, sent: dict):
    answer = requests.post(f"{executor.url}/calculate", **sent)
    assert answer.status_code == code, answer.text
    body = answer.json()
    assert body["status"] == "error" and set(body) == {"status", "msg"} and len(body["msg"]) > 10
    assert "Traceback" not in body["msg"] and str(executor.folder) not in body["msg"]


@pytest.mark.parametrize(
    ("code", "sent"),
    [
        (200, {"data": {"query": "%%%"}}),
        (200, {"json": {"data": SIMPLE, "metric": "no-such"}}),
        (415, {"data": b"<query/>", "headers": {"Content-Type": "application/xml"}}),
        (413, {"data": b"query=" + b"A" * 600_000, "headers": {"Content-Type": "application/x-www-form-urlencoded"}}),
    ],
)
def test_errors_of_the_old_dialect_are_answered_with_200_but_for_some(executor: Executor, code: int, sent: dict):
    answer = requests.post(f"{executor.url}/api/v1/outliers", **sent)
    assert answer.status_code == code and answer.json()["status"] == "error" and answer.json()["msg"]


def test_an_unknown_model_is_no_error_in_the_old_dialect(executor: Executor):
    answer = requests.post(f"{executor.url}/api/v1/outliers", json={"data": SIMPLE, "model": "no-such"}).json()
    assert answer["status"] == "success" and "no-such" in answer["model"]["reason"]


@pytest.mark.parametrize("path", ["/calculate", "/api/v1/outliers"])
def test_each_question_is_one_line_of_the_log(executor: Executor, path: str):
    query = {"query": flow_query(*HOUR)}
    sent = {
        "answered": query,
        "without": {"data": SIMPLE},
        "refused": {**query, "metric": "no-such"},
        "malformed": {"k": 0, **query},
    }
    for name, fields in sent.items():
        requests.post(executor.url + path, json=fields, headers={"X-Request-Id": f"{name}{path}"})
    lines = {name: [x for x in executor.log.read_text().splitlines() if f"request={name}{path} " in x] for name in sent}
    assert [len(found) for found in lines.values()] == [1, 1, 1, 1]
    told = [found[0] for found in lines.values()]
    assert all("level=info" in line and re.search(r" ms=\d+\.\d ", line) for line in told)
    assert f'msg="{path} 200: bytes, 60 points, 0 anomalies"' in told[0] and f" model={SENSOR}/2" in told[0]
    assert f'msg="{path} 200: bytes, 60 points' in told[1] and " model=baseline " in told[1]
    assert f"{path} 422: The metric 'no-such' is neither" in told[2] and f"{path} 400: 'k' must be" in told[3]


def test_a_druid_that_fails_is_one_warning(executor: Executor, simulator: Simulator):
    simulator.faults.status = 500
    try:
        query = flow_query("2026-05-27T10:00:00Z", "2026-05-27T11:00:00Z")
        answer = requests.post(f"{executor.url}/calculate", json={"query": query}, headers={"X-Request-Id": "failing"})
    finally:
        simulator.faults.clear()
    assert answer.status_code == 500
    told = [line for line in executor.log.read_text().splitlines() if "request=failing " in line]
    said = [line for line in told if "logger=outliers.web.app " in line]
    assert len(said) == 1 and "level=warning" in said[0] and "/calculate 500: Druid" in said[0]


def test_other_routes_and_methods_are_told_in_json(executor: Executor):
    for path, method, code in (("/nothing", "get", 404), ("/calculate", "get", 405), ("/health", "post", 405)):
        answer = requests.request(method, executor.url + path)
        assert answer.status_code == code and answer.json()["status"] == "error"
    assert "POST" in requests.get(f"{executor.url}/calculate").headers["Allow"]


def test_a_body_far_too_large_is_refused_in_json(executor: Executor):
    """Beyond what is read at all, the server itself refuses."""
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", executor.port, timeout=20)
    connection.putrequest("POST", "/calculate")
    connection.putheader("Content-Type", "application/json")
    connection.putheader("Content-Length", str(10**9))
    connection.endheaders()
    answer = connection.getresponse()
    assert answer.status == 413 and json.loads(answer.read())["status"] == "error"
    connection.close()


def test_what_is_no_http_is_refused(executor: Executor):
    import socket

    with socket.create_connection(("127.0.0.1", executor.port), timeout=20) as plain:
        plain.sendall(b"hello\r\n\r\n")
        assert b" 400 " in plain.recv(4096)


def test_health_and_readiness(executor: Executor):
    assert requests.get(f"{executor.url}/health").json() == {"status": "ok"}
    assert requests.get(f"{executor.url}/ready").json() == {"status": "ready"}


def test_models_are_described(executor: Executor):
    (model,) = requests.get(f"{executor.url}/api/v1/models").json()["models"]
    assert model["name"] == SENSOR and model["kind"] == "autoencoder" and model["age_s"] >= 0
    assert "bytes" in model["metrics"] and "PT1M" in model["granularities"]
    assert model["threshold"]["PT1M"]["whole"] > 0


def test_metrics_are_of_all_workers_together(executor: Executor):
    def count() -> float:
        text = requests.get(f"{executor.url}/metrics").text
        return sum(
            float(line.rsplit(" ", 1)[1])
            for line in text.splitlines()
            if line.startswith('outliers_requests_total{route="/calculate"')
        )

    before = count()
    for _ in range(40):  # each over a connection of its own, so that any worker may take it
        requests.post(f"{executor.url}/calculate", json={"data": SIMPLE})
    assert count() == before + 40
    text = requests.get(f"{executor.url}/metrics").text
    assert "outliers_workers 2.0" in text and "outliers_models_known 1.0" in text
    assert 'outliers_store_refreshes_total{outcome="ok"}' in text


def test_a_published_model_is_served_and_a_removed_one_is_not(executor: Executor):
    def names() -> list[str]:
        return [model["name"] for model in requests.get(f"{executor.url}/api/v1/models").json()["models"]]

    def wait_for(expected: int) -> None:
        until = time.monotonic() + 30
        while len(names()) != expected:
            assert time.monotonic() < until, names()
            time.sleep(0.1)

    latest = executor.store / "latest"
    shutil.copy(latest / f"{SENSOR}.onnx", latest / "a%2Fb.onnx")
    wait_for(2)
    time.sleep(2)  # each worker looks for itself, once a second
    answer = requests.post(f"{executor.url}/calculate", json={"query": flow_query(*HOUR), "model": "a/b"}).json()
    assert answer["status"] == "success" and answer["model"]["kind"] == "autoencoder"
    (latest / "a%2Fb.onnx").unlink()
    wait_for(1)


def test_a_store_that_goes_and_a_model_that_is_damaged_leave_the_last_good_one(tmp_path: Path, simulator: Simulator):
    running = Executor(tmp_path, simulator.url, Detection={"stale_s": 1e9})
    latest = running.store / "latest"
    latest.mkdir(parents=True)
    shutil.copy(DATA / f"{SENSOR}.onnx", latest)
    with running:

        def used() -> dict:
            query = flow_query(*HOUR, context={"queryId": str(time.monotonic())})
            answer = requests.post(f"{running.url}/calculate", json={"query": query, "model": SENSOR}).json()
            assert answer["status"] == "success" and len(answer["prediction"]) == 60, answer
            return answer["model"]

        good = used()
        assert good["kind"] == "autoencoder"
        for damage in (b"", b"not a model", (DATA / f"{SENSOR}.onnx").read_bytes()[:90_000]):
            (latest / "new").write_bytes(damage)
            (latest / "new").replace(latest / f"{SENSOR}.onnx")
            time.sleep(2.5)  # the mirror and then each worker look once a second
            assert used() == good
        shutil.rmtree(running.store)
        running.store.write_text("a file where a folder was")
        time.sleep(2.5)
        assert used() == good
        assert requests.get(f"{running.url}/ready").status_code == 200


FAULTS = ["html", "garbage", "cut_off", "no_answer", "status"]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_druid_that_answers_badly_is_a_500_in_our_words_and_forgotten_at_once(
    executor: Executor, simulator: Simulator, fault: str
):
    question = {
        "query": flow_query("2026-05-27T10:00:00Z", "2026-05-27T11:00:00Z"),
        "metric": "any",
        "k": 1.5 + FAULTS.index(fault),
    }
    setattr(simulator.faults, fault, 500 if fault == "status" else True)
    try:
        answer = requests.post(f"{executor.url}/calculate", json=question)
        old = requests.post(f"{executor.url}/api/v1/outliers", json=question)
    finally:
        simulator.faults.clear()
    for refused in (answer, old):
        assert "Druid" in refused.json().get("msg", ""), refused.text[-600:]
        assert "<" not in refused.text and "on purpose" not in refused.text
    assert (answer.status_code, old.status_code) == (500, 200)
    again = requests.post(f"{executor.url}/calculate", json=question)
    assert again.status_code == 200 and len(again.json()["prediction"]) == 60, again.text


def test_a_token_is_asked_for_where_one_is_configured(tmp_path: Path):
    with Executor(tmp_path, Server={"token": "s3cret-token"}) as executor:
        for path in ("/calculate", "/api/v1/outliers"):
            for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic s3cret-token"}):
                refused = requests.post(executor.url + path, json={"data": SIMPLE}, headers=headers)
                assert refused.status_code == 401 and refused.headers["WWW-Authenticate"] == "Bearer"
                assert refused.json()["status"] == "error" and "s3cret" not in refused.text
            headers = {"Authorization": "Bearer s3cret-token"}
            assert requests.post(executor.url + path, json={"data": SIMPLE}, headers=headers).status_code == 200
        assert requests.get(f"{executor.url}/api/v1/models").status_code == 401
        for path in ("/health", "/ready", "/metrics", "/openapi.json"):
            assert requests.get(executor.url + path).status_code == 200


def test_a_druid_that_is_not_there_is_a_500_that_says_so(tmp_path: Path):
    with Executor(tmp_path) as executor:
        answer = requests.post(f"{executor.url}/calculate", json={"query": flow_query(*HOUR)})
        assert answer.status_code == 500 and "Druid" in answer.json()["msg"] and "127.0.0.1" not in answer.text
        old = requests.post(f"{executor.url}/api/v1/outliers", json={"query": flow_query(*HOUR)})
        assert old.status_code == 200 and "Druid" in old.json()["msg"]
        assert requests.get(f"{executor.url}/ready").status_code == 200
