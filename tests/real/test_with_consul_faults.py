"""A Consul agent that forgets, and an executor that dies: who can answer is listed, who cannot is not."""

from __future__ import annotations

import signal
import time

import requests

from tests.real.conftest import FaultTable, Trained, ours
from tests.real.servers.consul import SERVICE, Consul, instances
from tests.real.servers.fleet import Place
from tests.real.servers.process import wait_until
from tests.real.system import Executor, System

CHECK_INTERVAL_S = 1


def listed(consul: Place, executor: Executor) -> bool:
    """Whether those who ask for passing instances are sent to this executor."""
    try:
        found = instances(consul.url, SERVICE)
    except requests.RequestException:
        return False
    return [each["Service"]["Port"] for each in found] == [int(executor.url.rpartition(":")[2])]


def test_an_agent_that_lost_its_memory_is_told_again(consul: Place, tried: Executor, faults: FaultTable) -> None:
    agent = ours(consul, Consul)
    wait_until(lambda: listed(consul, tried), 30, "the registration", [tried.process])
    agent.kill()
    assert tried.ready()  # nobody needs Consul to answer
    agent.start()
    begin = time.monotonic()
    wait_until(lambda: listed(consul, tried), 30, "the registration to heal", [tried.process])
    faults.add("Consul agent restarted without memory", "nothing: answers go on", time.monotonic() - begin)


def test_an_executor_that_is_killed_is_taken_out_within_the_check_interval(
    consul: Place, system: System, trained: Trained, tried: Executor, faults: FaultTable
) -> None:
    """Last: it is the one that the other tests ask."""
    wait_until(lambda: listed(consul, tried), 30, "the registration", [tried.process])
    tried.process.signal(signal.SIGKILL)
    begin = time.monotonic()
    wait_until(lambda: instances(consul.url, SERVICE) == [], 30, "the dead executor to be taken out")
    seconds = time.monotonic() - begin
    assert not tried.ready()  # its workers are gone with it
    assert seconds < CHECK_INTERVAL_S + 3  # the check, and Consul's own rounds
    again = system.serve()
    again.wait_ready()
    wait_until(lambda: listed(consul, again), 30, "its successor", [again.process])
    again.process.signal(signal.SIGTERM)
    assert again.process.wait(30) == 0
    assert instances(consul.url, SERVICE, passing=False) == []  # an orderly end leaves at once
    faults.add("executor killed", "taken out of Consul", seconds)
