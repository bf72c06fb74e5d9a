"""This node's entry in Consul; tests/real meets a real agent, here one that answers as scripted over HTTP."""

from __future__ import annotations

import dataclasses
import json
import logging
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from outliers.config import Config, Consul, Server
from outliers.errors import ConsulError
from outliers.web.consul import ConsulAgent


class Agent:
    """The part of an agent's HTTP interface that a node uses, with a memory that can be lost."""

    def __init__(self) -> None:
        self.services: dict[str, dict[str, Any]] = {}
        self.tokens: list[str | None] = []
        self.status = 200
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *args: Any) -> None:
                pass

            def do_PUT(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                if self.path.startswith("/v1/agent/service/register"):
                    definition = json.loads(body)
                    if outer.status == 200:
                        outer.services[definition["ID"]] = definition
                    self.answer(b"")
                else:
                    known = outer.services.pop(self.path.rpartition("/")[2], None)
                    self.answer(b"", 200 if known else 404)

            def do_GET(self) -> None:
                known = outer.services.get(self.path.rpartition("/")[2])
                self.answer(json.dumps(known).encode(), 200 if known else 404)

            def answer(self, body: bytes, status: int = 200) -> None:
                outer.tokens.append(self.headers.get("X-Consul-Token"))
                self.send_response(status if outer.status == 200 else outer.status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def config(self, **server: Any) -> Config:
        consul = Consul(enabled=True, port=self.server.server_port, token="tok", check_interval_s=0.5)
        return dataclasses.replace(Config(), consul=consul, server=Server(**server))


@pytest.fixture
def agent() -> Iterator[Agent]:
    found = Agent()
    yield found
    found.server.shutdown()
    found.server.server_close()


SERVICE_ID = "rb-aioutliers-" + socket.gethostname().partition(".")[0]


def test_register_has_the_cookbooks_id_and_a_check_on_ready(agent: Agent) -> None:
    consul = ConsulAgent(agent.config(address="0.0.0.0", port=39091))
    assert not consul.is_registered()
    consul.register()
    assert consul.is_registered()
    (entry,) = agent.services.values()
    assert (entry["ID"], entry["Name"], entry["Port"]) == (SERVICE_ID, "rb-aioutliers", 39091)
    assert entry["Check"]["HTTP"] == "http://127.0.0.1:39091/ready"
    assert (entry["Check"]["Interval"], entry["Check"]["DeregisterCriticalServiceAfter"]) == ("0.5s", "3600s")
    assert "Address" not in entry
    assert set(agent.tokens) == {"tok"}


@pytest.mark.parametrize(("bound", "url"), [("10.1.2.3", "http://10.1.2.3:8/ready"), ("::1", "http://[::1]:8/ready")])
def test_register_with_an_address_says_it(agent: Agent, bound: str, url: str) -> None:
    definition = ConsulAgent(agent.config(address=bound, port=8)).definition()
    assert (definition["Address"], definition["Check"]["HTTP"]) == (bound, url)


def test_deregister_twice_is_fine(agent: Agent) -> None:
    consul = ConsulAgent(agent.config())
    consul.register()
    consul.deregister()
    consul.deregister()
    assert not consul.is_registered()


@pytest.mark.parametrize(("status", "words"), [(403, "refuses the token"), (500, "status 500"), (302, "status 302")])
def test_refusal_is_a_sentence_without_the_token(agent: Agent, status: int, words: str) -> None:
    agent.status = status
    with pytest.raises(ConsulError, match=words) as caught:
        ConsulAgent(agent.config()).register()
    assert "tok'" not in str(caught.value)


def test_agent_that_is_not_there_is_unreachable() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        config = dataclasses.replace(Config(), consul=Consul(port=free.getsockname()[1]))
        with pytest.raises(ConsulError, match="cannot be reached"):
            ConsulAgent(config).is_registered()


def wait_for(condition: Any) -> None:
    until = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_keep_registered_heals_and_ends_with_deregistering(agent: Agent, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    stop = threading.Event()
    thread = threading.Thread(target=ConsulAgent(agent.config()).keep_registered, args=(stop,))
    thread.start()
    wait_for(lambda: agent.services)
    agent.services.clear()  # the agent was restarted without memory
    wait_for(lambda: agent.services)
    agent.status = 500
    wait_for(lambda: "not registered in Consul" in caplog.text)
    time.sleep(1.2)
    assert caplog.text.count("not registered in Consul") == 1  # said once, not at each try
    agent.services.clear()
    agent.status = 200
    wait_for(lambda: agent.services)
    stop.set()
    thread.join(10)
    assert not thread.is_alive()
    assert agent.services == {}


def test_keep_registered_with_an_agent_that_is_gone_ends_when_told() -> None:
    stop = threading.Event()
    config = dataclasses.replace(Config(), consul=Consul(port=1))
    thread = threading.Thread(target=ConsulAgent(config).keep_registered, args=(stop,))
    thread.start()
    stop.set()
    thread.join(10)
    assert not thread.is_alive()
