"""A Consul agent without memory: what it was told is gone when it starts again; it must not know who registers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import requests

from tests.real.servers.process import Process, free_ports
from tests.real.servers.single import SingleServer

SERVICE = "rb-aioutliers"


class Consul(SingleServer):
    name = "Consul"

    def __init__(self, program: Path, folder: Path) -> None:
        self.port, server, lan, wan = free_ports(4)
        ports = ["-http-port", self.port, "-server-port", server, "-serf-lan-port", lan, "-serf-wan-port", wan]
        unused = ["-dns-port", "-1", "-grpc-port", "-1", "-grpc-tls-port", "-1"]
        command = [program, "agent", "-dev", "-bind", "127.0.0.1", "-client", "127.0.0.1", *ports, *unused]
        self.process = Process([str(each) for each in command], folder / "consul.log")

    def ready(self) -> bool:
        try:
            leader = requests.get(f"{self.url}/v1/status/leader", timeout=2)
        except requests.RequestException:
            return False
        return leader.ok and leader.json() != ""


def instances(url: str, service: str, passing: bool = True) -> list[Any]:
    """Ask the agent at `url` for a service's instances, only those whose checks pass by default."""
    wanted = {"passing": "1"} if passing else {}
    answer = requests.get(f"{url}/v1/health/service/{service}", params=wanted, timeout=5)
    answer.raise_for_status()
    return list(answer.json())
