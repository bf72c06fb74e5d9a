"""A MinIO that fails or refuses, and trainers that race: models in use stay in use, and nothing is published twice."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor

from tests.real.conftest import FaultTable, ours
from tests.real.servers.fleet import Place
from tests.real.servers.minio import Minio
from tests.real.servers.process import wait_until
from tests.real.system import Executor, System, between, flow_query
from tests.real.traffic import NOW_S

SENSOR = "warehouse"
QUERY = flow_query(SENSOR, between(NOW_S - 8 * 3600, NOW_S - 3600))


def outcome_of(system: System, name: str = SENSOR) -> str:
    _, text = system.run("train", name, "--json")
    (line,) = [each for each in text.splitlines() if each.startswith("{")]
    return str(json.loads(line)["text"])


def forget(system: System) -> None:
    code, text = system.run("models", "delete", SENSOR, "--yes")
    assert code == 0, text


def version_served(executor: Executor) -> str:
    return str(executor.models().get(SENSOR, {}).get("version", ""))


def test_a_store_that_is_away_leaves_models_serving_and_is_caught_up_with(
    s3: Place, tried: Executor, system: System, faults: FaultTable
) -> None:
    minio = ours(s3, Minio)
    before = tried.calculate(QUERY)
    assert before.body["model"]["name"] == SENSOR, before.body["model"]
    minio.kill()
    try:
        time.sleep(3)  # longer than [Store] refresh_s
        answer = tried.calculate(QUERY)
        assert (answer.status, answer.told) == (200, "right")
        assert answer.body["model"] == before.body["model"]
        assert tried.ready()
        outcome = outcome_of(system)
        assert outcome.startswith("failed: S3 "), outcome
    finally:
        minio.start()
    forget(system)  # so that whatever is learned is published
    published = outcome_of(system)
    assert published.startswith("published "), published
    begin = time.monotonic()
    version = published.split()[1].rstrip(":")
    wait_until(lambda: version_served(tried) == version, 30, "the new version", [tried.process])
    seconds = time.monotonic() - begin
    assert tried.calculate(QUERY).body["model"]["version"] == version
    faults.add("MinIO stopped, and back with the same data", f"right, old model; training: {outcome}", seconds)


def test_wrong_credentials_are_told_and_the_executor_answers_without_models(
    system: System, tried: Executor, faults: FaultTable
) -> None:
    wrong = "not-the-secret-of-anyone"
    other = System(system.folder / "wrong", system.sections)
    other.configure({"AWS": {"s3_private_key": wrong}, "Consul": {"enabled": "false"}})
    try:
        executor = other.serve()
        executor.wait_ready()
        answer = executor.calculate(QUERY)
        assert answer.status == 200
        assert answer.body["model"]["kind"] == "baseline"
        assert answer.body["model"]["reason"]
        outcome = outcome_of(other)
        assert outcome.startswith("failed: S3 refuses the credentials"), outcome
        logs = "".join(each.log.read_text() for each in other.processes)
        assert wrong not in logs + json.dumps(answer.body) + outcome
    finally:
        other.close()
    faults.add("MinIO: wrong credentials", f"answered without a model; training: {outcome}", None)


def test_of_two_trainers_that_publish_one_name_at_once_one_wins(
    system: System, tried: Executor, faults: FaultTable
) -> None:
    forget(system)
    with ThreadPoolExecutor(2) as pool:
        outcomes = sorted(pool.map(lambda _: outcome_of(system), range(2)))
    kept, published = outcomes
    version = published.split()[1].rstrip(":")
    assert published.startswith("published "), outcomes
    assert kept.startswith(f"kept {version}: lost the race"), outcomes
    wait_until(lambda: version_served(tried) == version, 30, "the winner", [tried.process])
    faults.add("two trainers publish one name at once", f"one published, the other: {kept.replace(version, '…')}", 0.0)
