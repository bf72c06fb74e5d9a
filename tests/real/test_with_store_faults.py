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


def answers_with(executor: Executor, version: str | None = None) -> bool:
    """Whether the sensor's own model answers, in this version if one is named."""
    model = executor.calculate(QUERY).body["model"]
    return model["name"] == SENSOR and version in (None, model["version"])


def refreshed_at(executor: Executor) -> float:
    """When the executor last saw the store, in its own words."""
    (at,) = (value for name, value in executor.metrics().items() if name.endswith("store_refreshed_timestamp_seconds"))
    return at


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
    back = time.time()
    wait_until(lambda: refreshed_at(tried) > back, 30, "the store to be seen", [tried.process])
    seconds = time.time() - back
    forget(system)  # so that whatever is learned is published
    published = outcome_of(system)
    assert published.startswith("published "), published
    version = published.split()[1].rstrip(":")
    wait_until(lambda: answers_with(tried, version), 30, "the new version", [tried.process])
    faults.add("MinIO stopped, and back with the same data", f"right, old model; training: {outcome}", seconds)


def test_refused_credentials_are_told_and_models_come_when_they_are_accepted(
    s3: Place, system: System, tried: Executor, faults: FaultTable
) -> None:
    """An executor that starts meanwhile has no models; the secret of the configuration is shown to nobody."""
    minio = ours(s3, Minio)
    restart(minio, "what-our-configuration-does-not-know")
    other = System(system.folder / "refused", system.sections)
    other.configure({"Consul": {"enabled": "false"}})
    try:
        executor = other.serve()
        executor.wait_ready()
        answer = executor.calculate(QUERY)
        assert (answer.status, answer.body["model"]["kind"]) == (200, "baseline")
        assert answer.body["model"]["reason"]
        assert answers_with(tried)  # from its mirror
        outcome = outcome_of(other)
        assert outcome.startswith("failed: S3 refuses the credentials"), outcome
        restart(minio, minio.secret)
        begin = time.monotonic()
        wait_until(lambda: answers_with(executor), 30, "the models", [executor.process])
        seconds = time.monotonic() - begin
        logs = "".join(each.log.read_text() for each in other.processes)
        assert minio.secret not in logs + json.dumps(answer.body) + outcome
    finally:
        other.close()
        restart(minio, minio.secret)
    told = f"{answer.body['model']['reason']}; training: {outcome}"
    faults.add("MinIO refuses our credentials, then accepts them", told, seconds)


def restart(minio: Minio, secret: str) -> None:
    minio.kill()
    minio.accept(secret)
    minio.start()


def test_of_two_trainers_that_publish_one_name_at_once_one_wins(
    system: System, tried: Executor, faults: FaultTable
) -> None:
    forget(system)
    with ThreadPoolExecutor(2) as pool:
        outcomes = sorted(pool.map(lambda _: outcome_of(system), range(2)))
    begin = time.monotonic()
    kept, published = outcomes
    version = published.split()[1].rstrip(":")
    assert published.startswith("published "), outcomes
    assert kept.startswith(f"kept {version}: lost the race"), outcomes
    wait_until(lambda: answers_with(tried, version), 30, "the winner", [tried.process])
    told = f"one published, the other: {kept.replace(version, '…')}"
    faults.add("two trainers publish one name at once", told, time.monotonic() - begin)
