"""A real Druid that fails: what callers and trainers are told meanwhile, and that all is right again by itself."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from tests.real.conftest import FaultTable, ours
from tests.real.servers.druid import Druid
from tests.real.servers.fleet import Place
from tests.real.servers.process import wait_until
from tests.real.system import Answer, Executor, Query, System, between, flow_query, seconds_of, utc
from tests.real.traffic import NOW_S

DAY_S = 86_400
SENSOR = "branch-lyon"
START_S = NOW_S - 2 * DAY_S
QUERY = flow_query(SENSOR, between(START_S, START_S + 6 * 3600))


@pytest.fixture(scope="module")
def cluster(druid: Place) -> Druid:
    return ours(druid, Druid)


@pytest.fixture(autouse=True)
def _whole_again(cluster: Druid, tried: Executor, baseline: Answer) -> Iterator[None]:
    """Whatever a test did, the next one finds a Druid that answers."""
    yield
    for node in cluster.nodes.values():
        if not node.running:
            node.start()
        node.signal(signal.SIGCONT)
    wait_until(lambda: right(tried, baseline), 90, "Druid", list(cluster.nodes.values()))


@pytest.fixture(scope="module")
def baseline(tried: Executor) -> Answer:
    """The answer before anything went wrong."""
    answer = tried.calculate(QUERY)
    assert answer.status == 200 and answer.told == "right", answer.body
    assert answer.body["lead_in"] == "P1D" and len(answer.prediction) == 360
    return answer


def right(tried: Executor, baseline: Answer) -> bool:
    answer = tried.calculate(QUERY)
    same = all(answer.body.get(key) == baseline.body[key] for key in ("anomalies", "prediction", "model"))
    return answer.status == 200 and answer.told == "right" and same


def until_right(begin: Callable[[], None], tried: Executor, baseline: Answer) -> float:
    """Do what repairs, and measure how long until the answer is the one it was."""
    started = time.monotonic()
    begin()
    wait_until(lambda: right(tried, baseline), 90, "the right answer", [tried.process])
    return time.monotonic() - started


def outcome_of(system: System, name: str = SENSOR) -> str:
    """Train now, at once and for the last time; what it came to."""
    _, text = system.run("train", name, "--json")
    (line,) = [each for each in text.splitlines() if each.startswith("{")]
    return str(json.loads(line)["text"])


def served_version(system: System) -> str:
    code, text = system.run("models", "show", SENSOR, "--json")
    assert code == 0, text
    return str(json.loads(text)["served"]["version"])


def test_a_broker_that_dies_in_mid_answer_is_told_and_its_return_noticed(
    cluster: Druid, tried: Executor, baseline: Answer, faults: FaultTable
) -> None:
    broker, historical = cluster.nodes["broker"], cluster.nodes["historical"]
    historical.signal(signal.SIGSTOP)  # keeps the broker at it
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(tried.calculate, QUERY)
        time.sleep(0.7)
        broker.kill()
        answer = asked.result()
    assert answer.status == 500 and "Druid" in answer.body["msg"], answer.body
    assert answer.seconds < 4  # the broken connection is noticed, not waited for
    down = tried.calculate(QUERY)
    assert down.status == 500 and "reached" in down.body["msg"], down.body
    historical.signal(signal.SIGCONT)
    faults.add("broker killed in mid-answer", answer.told, until_right(broker.start, tried, baseline))


def test_a_historical_that_hangs_is_a_time_out_and_goes_on(
    cluster: Druid, tried: Executor, baseline: Answer, faults: FaultTable
) -> None:
    historical = cluster.nodes["historical"]
    historical.signal(signal.SIGSTOP)
    answer = tried.calculate(QUERY)
    assert answer.status == 500 and "Druid" in answer.body["msg"] and "time" in answer.body["msg"], answer.body
    assert 4 < answer.seconds < 10  # [Druid] timeout_s is 5 here

    def go_on() -> None:
        historical.signal(signal.SIGCONT)

    faults.add("historical stopped past the time-out, continued", answer.told, until_right(go_on, tried, baseline))


def test_a_query_that_druid_refuses_is_told_and_hinders_no_other(
    tried: Executor, baseline: Answer, faults: FaultTable
) -> None:
    refused = {**QUERY, "aggregations": [*QUERY["aggregations"], {"type": "medianish", "name": "m"}]}
    answer = tried.calculate(refused)
    assert answer.status == 422 and "InvalidTypeIdException" in answer.told, answer.body
    faults.add("a query that Druid refuses", answer.told, until_right(lambda: None, tried, baseline))


def test_a_historical_that_died_is_told_and_is_right_again_once_it_is_back(
    cluster: Druid, tried: Executor, system: System, baseline: Answer, faults: FaultTable
) -> None:
    historical = cluster.nodes["historical"]
    historical.kill()
    answer = tried.calculate(QUERY)
    assert answer.status == 500 and "Druid" in answer.told, answer.body
    outcome = outcome_of(system)
    assert outcome.startswith("failed: Druid"), outcome
    seconds = until_right(historical.start, tried, baseline)
    told = f"{answer.told}; training: {outcome}"
    faults.add("historical killed, started again while Druid answers 500", told, seconds)


def test_a_historical_that_stays_away_makes_no_outage_and_no_model(
    cluster: Druid, tried: Executor, system: System, baseline: Answer, faults: FaultTable
) -> None:
    version = served_version(system)
    historical = cluster.nodes["historical"]
    historical.kill()
    empty: list[Answer] = []

    def left_out() -> bool:
        answer = tried.calculate(QUERY)
        empty.append(answer)
        return answer.status == 200

    wait_until(left_out, 90, "answers without rows", [tried.process], every_s=1)
    answer = empty[-1]
    assert answer.anomalies == []
    assert "Druid holds no data for" in answer.told and utc(START_S)[:10] in answer.told, answer.told
    trained_on_nothing = outcome_of(system)
    assert trained_on_nothing.startswith(f"kept {version}: Druid holds no data for "), trained_on_nothing
    assert served_version(system) == version
    seconds = until_right(historical.start, tried, baseline)
    told = f"{answer.told}; training: {trained_on_nothing.replace(version, '…')}"
    faults.add("historical killed, started again while Druid answers 200 without its rows", told, seconds)


TODAY_S = NOW_S // DAY_S * DAY_S
MIDDLE = between(TODAY_S - 4 * DAY_S, TODAY_S - 2 * DAY_S)
NEWEST = between(TODAY_S - 3 * DAY_S, TODAY_S + DAY_S)


@pytest.fixture
def mark(cluster: Druid) -> Iterator[Callable[[str, str], None]]:
    """Have the segments of an interval dropped (`markUnused`) or loaded (`markUsed`); in the end all are loaded."""
    url = f"{cluster.coordinator_url}/druid/indexer/v1/datasources/rb_flow"
    headers = {"Accept": "application/json"}  # without it Druid does what is asked and answers 500

    def do(how: str, interval: str) -> None:
        requests.post(f"{url}/{how}", json={"interval": interval}, headers=headers, timeout=10).raise_for_status()

    yield do
    do("markUsed", between(TODAY_S - 30 * DAY_S, TODAY_S + DAY_S))


def test_days_that_are_left_out_of_an_answer_are_no_outage_and_no_model(
    mark: Callable[[str, str], None], tried: Executor, system: System, baseline: Answer, faults: FaultTable
) -> None:
    """Half an answer: two days in the middle have no segment loaded."""
    version = served_version(system)
    across = flow_query(SENSOR, between(NOW_S - 6 * DAY_S, NOW_S - DAY_S), "five_minute")
    before = tried.calculate(across)
    mark("markUnused", MIDDLE)
    gone = len(before.prediction) - 2 * 288
    wait_until(lambda: len(tried.calculate(across).prediction) == gone, 60, "the days to be gone", every_s=0.5)
    answer = tried.calculate(across)
    assert answer.status == 200
    assert "Druid holds no data for" in answer.told and MIDDLE[:10] in answer.told, answer.told
    known = {each["timestamp"] for each in before.anomalies}
    edges = [seconds_of(each) for each in MIDDLE.split("/")]
    beside = [
        each
        for each in answer.anomalies
        if each["direction"] == "down" and min(abs(seconds_of(each["timestamp"]) - edge) for edge in edges) < 7200
    ]
    assert [each for each in beside if each["timestamp"] not in known] == []
    outcome = outcome_of(system)
    assert outcome.startswith(f"kept {version}: Druid holds no data for {MIDDLE[:10]}"), outcome
    assert served_version(system) == version
    mark("markUsed", MIDDLE)
    begin = time.monotonic()
    wait_until(lambda: same(tried, across, before), 60, "all days", [tried.process])
    told = f"{answer.told}; training: {outcome.replace(version, '…')}"
    faults.add("two days left out of a 200, loaded again", told, time.monotonic() - begin)


def test_newest_days_that_are_gone_do_not_turn_the_clock_back(
    mark: Callable[[str, str], None], tried: Executor, system: System, baseline: Answer, faults: FaultTable
) -> None:
    """Where the newest segments are lost, Druid's newest event is an old one: no hole is in sight."""
    version = served_version(system)
    mark("markUnused", NEWEST)
    wait_until(lambda: not tried.calculate(QUERY).prediction, 60, "the days to be gone", every_s=0.5)
    answer = tried.calculate(QUERY)
    assert (answer.status, answer.anomalies) == (200, [])
    assert "Druid holds no data for" in answer.told, answer.told
    outcome = outcome_of(system)
    assert outcome.startswith(f"kept {version}: Druid holds no data for {NEWEST[:8]}"), outcome
    assert served_version(system) == version
    seconds = until_right(lambda: mark("markUsed", NEWEST), tried, baseline)
    told = f"{answer.told}; training: {outcome.replace(version, '…')}"
    faults.add("the newest days left out of a 200, loaded again", told, seconds)


def same(tried: Executor, query: Query, before: Answer) -> bool:
    answer = tried.calculate(query)
    return answer.told == "right" and answer.body["prediction"] == before.body["prediction"]
