"""This node in a real Consul agent: registered, passing, critical, healed after a loss of memory, gone."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import pytest

from outliers.config import Config, Consul, Server
from outliers.web.consul import ConsulAgent
from tests.real.servers.consul import instances
from tests.real.servers.fleet import Place
from tests.real.servers.process import wait_until


class Ready:
    """A port that answers /ready."""

    def __init__(self) -> None:
        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *args: object) -> None:
                pass

            def do_GET(self) -> None:
                self.send_response(200 if self.path == "/ready" else 404)
                self.end_headers()

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def node(consul: Place) -> Iterator[tuple[ConsulAgent, Ready]]:
    ready, address = Ready(), urlsplit(consul.url)
    settings = Consul(enabled=True, address=str(address.hostname), port=int(address.port or 8500), check_interval_s=1)
    server = Server(address="0.0.0.0", port=ready.server.server_port)
    agent = ConsulAgent(dataclasses.replace(Config(), consul=settings, server=server))
    yield agent, ready
    agent.deregister()
    ready.server.server_close()


def test_entry_is_passing_then_critical_then_gone(consul: Place, node: tuple[ConsulAgent, Ready]) -> None:
    agent, ready = node

    def passing() -> bool:
        ports = [each["Service"]["Port"] for each in instances(consul.url, "rb-aioutliers")]
        return ready.server.server_port in ports

    assert not agent.is_registered()
    agent.register()
    assert agent.is_registered()
    wait_until(passing, 20, "passing")
    ready.server.shutdown()
    ready.server.server_close()
    wait_until(lambda: not passing(), 20, "critical")
    agent.deregister()
    assert not agent.is_registered()
    assert instances(consul.url, "rb-aioutliers", passing=False) == []


def test_entry_that_the_agent_forgot_is_made_again(consul: Place, node: tuple[ConsulAgent, Ready]) -> None:
    agent, _ = node
    stop = threading.Event()
    thread = threading.Thread(target=agent.keep_registered, args=(stop,))
    thread.start()
    wait_until(agent.is_registered, 20, "registered")
    agent.deregister()  # what a restart without memory comes to
    wait_until(agent.is_registered, 20, "registered again")
    stop.set()
    thread.join(20)
    assert not agent.is_registered()
