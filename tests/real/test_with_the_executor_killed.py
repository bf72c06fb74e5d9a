"""An executor that dies: nobody who asks Consul is sent to it. The last file, for it is everybody's executor."""

from __future__ import annotations

import signal
import time

from tests.real.conftest import FaultTable, Trained, listed
from tests.real.servers.consul import SERVICE, instances
from tests.real.servers.fleet import Place
from tests.real.servers.process import wait_until
from tests.real.system import Executor, System

CHECK_INTERVAL_S = 1


def test_an_executor_that_is_killed_is_taken_out_within_the_check_interval(
    consul: Place, system: System, trained: Trained, tried: Executor, faults: FaultTable
) -> None:
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
