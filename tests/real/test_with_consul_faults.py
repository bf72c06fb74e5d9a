"""A Consul agent that forgets: whoever can answer is listed again by itself."""

from __future__ import annotations

import time

from tests.real.conftest import FaultTable, listed, ours
from tests.real.servers.consul import Consul
from tests.real.servers.fleet import Place
from tests.real.servers.process import wait_until
from tests.real.system import Executor


def test_an_agent_that_lost_its_memory_is_told_again(consul: Place, tried: Executor, faults: FaultTable) -> None:
    agent = ours(consul, Consul)
    wait_until(lambda: listed(consul, tried), 30, "the registration", [tried.process])
    agent.kill()
    assert tried.ready()  # nobody needs Consul to answer
    agent.start()
    begin = time.monotonic()
    wait_until(lambda: listed(consul, tried), 30, "the registration to heal", [tried.process])
    faults.add("Consul agent restarted without memory", "nothing: answers go on", time.monotonic() - begin)
