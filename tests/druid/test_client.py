"""The client against the simulated broker: answers, refusals, and everything that goes wrong on the way."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any, Optional

import pytest

from outliers.druid.client import Druid
from outliers.druid.query import sensor_filter, training_query
from outliers.druid.simulator import Simulator
from outliers.druid.traffic import FLOW_AGGREGATIONS
from outliers.errors import (
    ConfigError,
    DruidError,
    DruidFailed,
    DruidRefused,
    DruidTimeout,
    DruidUnreachable,
)
from tests.druid.conftest import NOW_S, Settings

QUERY = training_query("rb_flow", sensor_filter("branch-lyon"), FLOW_AGGREGATIONS, "PT1M", NOW_S - 3600, NOW_S)


@pytest.fixture
def broken(faulty: Simulator) -> Iterator[Druid]:
    druid = Druid(Settings(faulty.url, timeout_s=0.5, max_answer_mb=0.05, newest_s=0.0))
    yield druid
    druid.close()


def test_query_is_answered_with_rows(client: Druid) -> None:
    answer = client.query(QUERY)
    assert len(answer.rows) == 61
    assert set(answer.rows[0]["result"]) == {"bytes", "pkts", "flows", "clients"}
    assert answer.uncovered == ()


def test_query_is_not_changed_by_asking(generated: Simulator, client: Druid) -> None:
    before = dict(QUERY)
    client.query(QUERY, timeout_s=1.5)
    assert before == QUERY
    assert generated.asked[-1]["context"] == {"timeout": 1500, "uncoveredIntervalsLimit": 50}


def test_uncovered_time_is_told(client: Druid) -> None:
    day = 86400
    midnight = NOW_S // day * day
    late = training_query("rb_flow", None, FLOW_AGGREGATIONS, "PT1H", midnight, midnight + 3 * day)
    assert client.query(late).uncovered == ((midnight + day, midnight + 3 * day),)


def test_newest_event_is_that_of_any_sensor_and_kept(generated: Simulator, client: Druid) -> None:
    assert client.newest("rb_flow") == NOW_S // 60 * 60
    asked = len(generated.asked)
    assert client.newest("rb_flow") == NOW_S // 60 * 60
    assert len(generated.asked) == asked
    assert client.newest("no_such_source") is None


def test_newest_event_is_refreshed_in_the_background(faulty: Simulator, broken: Druid) -> None:
    assert broken.newest("rb_flow") is not None
    faulty.faults.delay_s = 0.3
    began = time.perf_counter()
    assert broken.newest("rb_flow") is not None
    assert time.perf_counter() - began < 0.25


def test_newest_event_is_asked_again_after_a_rest(faulty: Simulator) -> None:
    """What was read long ago says nothing: the first question after a quiet night waits, as the very first one does."""
    druid = Druid(Settings(faulty.url, newest_s=0.01))
    assert druid.newest("rb_flow") == NOW_S // 60 * 60
    kept = druid._newest["rb_flow"]
    druid._newest["rb_flow"] = kept._replace(read_at=kept.read_at - 60, good_at=kept.good_at - 60)
    faulty.faults.delay_s = 0.3
    assert druid.newest("rb_flow") == NOW_S // 60 * 60


def test_newest_event_that_cannot_be_had_is_not_waited_for_again(faulty: Simulator, broken: Druid) -> None:
    faulty.faults.delay_s = 5.0
    assert broken.newest("rb_flow") is None
    began = time.perf_counter()
    assert broken.newest("rb_flow") is None
    assert time.perf_counter() - began < 0.3


def test_first_callers_wait_for_the_newest_event_together(faulty: Simulator) -> None:
    faulty.faults.delay_s = 0.2
    druid = Druid(Settings(faulty.url))
    found: list[Optional[int]] = []
    threads = [threading.Thread(target=lambda: found.append(druid.newest("rb_flow"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [NOW_S // 60 * 60] * 4
    assert len(faulty.asked) == 1


def test_newest_event_is_unknown_where_druid_is_down(faulty: Simulator, broken: Druid) -> None:
    faulty.stop()
    assert broken.newest("rb_flow") is None


def test_first_event_is_the_filters_own_and_kept(generated: Simulator, client: Druid) -> None:
    first = client.first_event("rb_flow", sensor_filter("new-office"))
    whole = client.first_event("rb_flow")
    assert first is not None
    assert whole is not None
    assert 2 * 86400 < NOW_S - first < 4 * 86400 < NOW_S - whole
    asked = len(generated.asked)
    same = {"type": "in", "dimension": "sensor_name", "values": ["new-office"]}
    assert client.first_event("rb_flow", same) == first
    assert len(generated.asked) == asked
    assert client.first_event("rb_flow", sensor_filter("nobody")) is None


def test_first_event_that_cannot_be_had_is_not_asked_for_at_once_again(faulty: Simulator) -> None:
    druid = Druid(Settings(faulty.url, timeout_s=0.3))
    faulty.faults.delay_s = 1.0
    for _ in range(3):
        with pytest.raises(DruidTimeout):
            druid.first_event("rb_flow", sensor_filter("new-office"))
    assert len(faulty.asked) == 1


def test_bounds_are_the_first_and_newest_event(client: Druid) -> None:
    bounds = client.bounds("rb_flow", sensor_filter("new-office"))
    assert bounds == (client.first_event("rb_flow", sensor_filter("new-office")), NOW_S // 60 * 60)
    assert client.bounds("no_such_source") is None


def test_top_sensors_are_ordered_by_events(client: Druid) -> None:
    sensors = client.top_sensors("rb_flow", 7, 100)
    assert len(sensors) == 8
    assert sensors[0] in ("hq-madrid", "datacenter-1")
    assert client.top_sensors("rb_flow", 7, 3) == sensors[:3]


def test_calls_are_observed_with_their_outcome(faulty: Simulator) -> None:
    seen: list[tuple[str, str]] = []
    druid = Druid(Settings(faulty.url), observe=lambda kind, outcome, seconds: seen.append((kind, outcome)))
    druid.query(QUERY, kind="lead_in")
    with pytest.raises(DruidRefused):
        druid.query({**QUERY, "granularity": "fortnight"})
    faulty.faults.status = 500
    with pytest.raises(DruidFailed):
        druid.query(QUERY)
    faulty.stop()
    with pytest.raises(DruidUnreachable):
        druid.query(QUERY)
    assert seen == [("lead_in", "ok"), ("query", "refused"), ("query", "failed"), ("query", "unreachable")]


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"granularity": "fortnight"}, "ValueInstantiationException"),
        ({"filter": {"type": "hunch"}}, "InvalidTypeIdException"),
        ({"aggregations": [{"type": "vibe", "name": "x"}]}, "InvalidTypeIdException"),
        ({"context": {"timeout": "soon"}}, "BadQueryContextException"),
    ],
)
def test_refusal_is_the_querys_fault_and_names_druids_class(client: Druid, change: dict[str, Any], kind: str) -> None:
    with pytest.raises(DruidRefused, match=kind):
        client.query({**QUERY, **change})


@pytest.mark.parametrize(
    ("status", "error_class", "error"),
    [
        (500, "java.lang.RuntimeException", DruidFailed),
        (500, "org.jboss.netty.channel.ChannelException", DruidFailed),
        (500, "com.fasterxml.jackson.databind.JsonMappingException", DruidRefused),
        (400, "org.apache.druid.query.ResourceLimitExceededException", DruidRefused),
        (401, "", DruidFailed),
        (404, "", DruidFailed),
        (429, "org.apache.druid.query.QueryCapacityExceededException", DruidFailed),
        (501, "org.apache.druid.query.QueryUnsupportedException", DruidRefused),
        (503, "", DruidFailed),
        (504, "org.apache.druid.query.QueryTimeoutException", DruidTimeout),
    ],
)
def test_status_and_class_decide_whose_fault_it_is(
    faulty: Simulator, broken: Druid, status: int, error_class: str, error: type[Exception]
) -> None:
    faulty.faults.status, faulty.faults.error_class = status, error_class
    with pytest.raises(error) as raised:
        broken.query(QUERY)
    assert "127.0.0.1" not in str(raised.value)
    faulty.faults.clear()
    assert broken.query(QUERY).rows


@pytest.mark.parametrize("fault", ["html", "garbage", "cut_off"])
def test_answer_that_is_none_is_a_failure_of_druid(faulty: Simulator, broken: Druid, fault: str) -> None:
    setattr(faulty.faults, fault, True)
    with pytest.raises(DruidFailed, match="Druid's answer"):
        broken.query(QUERY)
    faulty.faults.clear()
    assert broken.query(QUERY).rows


def test_answer_larger_than_allowed_is_not_read(broken: Druid) -> None:
    with pytest.raises(DruidFailed, match=r"larger than 0\.05 MB"):
        broken.query({**QUERY, "granularity": "second"})


def test_druid_that_is_too_slow_is_told_as_such(faulty: Simulator, broken: Druid) -> None:
    faulty.faults.delay_s = 5.0
    with pytest.raises(DruidTimeout):
        broken.query(QUERY)


def test_answer_that_dribbles_in_is_ended_at_the_deadline(faulty: Simulator, broken: Druid) -> None:
    faulty.faults.dribble_s = 0.05
    began = time.perf_counter()
    with pytest.raises(DruidTimeout, match="within"):
        broken.query(QUERY)
    assert time.perf_counter() - began < 3.0


@pytest.mark.parametrize(
    ("at_once", "slowly"),
    [
        (b"", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Padding: aaaaaaaaaaaaaaaa\r\n\r\n[]"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"0" * 40 + b"2\r\n[]\r\n0\r\n\r\n"),
    ],
    ids=["head", "size of a chunk"],
)
def test_nothing_that_dribbles_in_stretches_the_deadline(at_once: bytes, slowly: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection, contextlib.suppress(OSError):
                connection.recv(65536)
                connection.sendall(at_once)
                for byte in slowly:
                    connection.sendall(bytes([byte]))
                    time.sleep(0.1)

        threading.Thread(target=serve, daemon=True).start()
        druid = Druid(Settings(f"http://127.0.0.1:{server.getsockname()[1]}/", timeout_s=0.3))
        began = time.perf_counter()
        with pytest.raises(DruidTimeout, match="within"):
            druid.query(QUERY)
        assert time.perf_counter() - began < 2.0


def test_connection_that_ends_without_an_answer_is_tried_once_more(faulty: Simulator, broken: Druid) -> None:
    broken.query(QUERY)
    faulty.faults.no_answer = True
    before = len(faulty.asked)
    with pytest.raises(DruidUnreachable):
        broken.query(QUERY)
    assert len(faulty.asked) == before + 2


def test_broker_that_was_restarted_is_found_again(faulty: Simulator) -> None:
    druid = Druid(Settings(faulty.url))
    port = int(faulty.url.split(":")[2].split("/")[0])
    assert druid.query(QUERY).rows
    faulty.stop()
    with pytest.raises(DruidUnreachable, match="reached"):
        druid.query(QUERY)
    faulty.start(port)
    assert druid.query(QUERY).rows


def test_port_that_accepts_and_says_nothing_is_a_time_out() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        druid = Druid(Settings(f"http://127.0.0.1:{silent.getsockname()[1]}/druid/v2/", timeout_s=0.2))
        with pytest.raises(DruidTimeout):
            druid.query(QUERY)


@pytest.mark.parametrize(
    "reply", [b"SSH-2.0-OpenSSH_9.2\r\n\r\n", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n[{"]
)
def test_port_that_speaks_something_else_or_stops_is_an_error_of_druid(reply: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            for _ in range(2):
                connection, _ = server.accept()
                with connection:
                    connection.recv(65536)
                    connection.sendall(reply)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        druid = Druid(Settings(f"http://127.0.0.1:{server.getsockname()[1]}/", timeout_s=2.0))
        with pytest.raises(DruidError, match="Druid"):
            druid.query(QUERY)


def test_connections_are_kept_and_shared_between_threads(faulty: Simulator) -> None:
    druid = Druid(Settings(faulty.url))
    wrong: list[BaseException] = []

    def ask() -> None:
        try:
            for _ in range(5):
                assert len(druid.query(QUERY).rows) == 61
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert len(druid._transport._idle) <= 6
    druid.close()


@pytest.mark.parametrize("endpoint", ["", "druid:8082", "ftp://druid/druid/v2/", "http://"])
def test_endpoint_that_is_no_address_is_a_configuration_error(endpoint: str) -> None:
    with pytest.raises(ConfigError, match="endpoint"):
        Druid(Settings(endpoint))


def test_credentials_are_sent_and_not_told(faulty: Simulator) -> None:
    druid = Druid(Settings(faulty.url, user="me", password="s3cret%"))
    assert b"\r\nAuthorization: Basic bWU6czNjcmV0JQ==\r\n" in druid._transport._head
    faulty.faults.status = 401
    with pytest.raises(DruidFailed, match="credentials") as raised:
        druid.query(QUERY)
    assert "s3cret" not in str(raised.value)
