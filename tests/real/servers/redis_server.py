"""Redis as the trainer nodes share it: with a password, keeping what it holds over a restart."""

from __future__ import annotations

from pathlib import Path

import redis

from tests.real.servers.process import Process, free_ports
from tests.real.servers.single import SingleServer


class RedisServer(SingleServer):
    name, scheme = "Redis", "redis"
    secret = "a%redis secret"

    def __init__(self, program: Path, folder: Path) -> None:
        (self.port,) = free_ports(1)
        folder.mkdir(parents=True, exist_ok=True)
        where = ["--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(folder)]
        keep = ["--appendonly", "yes", "--appendfsync", "always", "--save", ""]
        command = [str(program), *where, *keep, "--requirepass", self.secret]
        self.process = Process(command, folder / "redis.log")

    def ready(self) -> bool:
        try:
            with redis.Redis(port=self.port, password=self.secret, socket_timeout=2) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False
