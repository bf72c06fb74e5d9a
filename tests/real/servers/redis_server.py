"""Redis as the trainer nodes share it: with a password, keeping what it holds over a restart."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import redis

from tests.real.servers.process import Process, free_ports, wait_until


class RedisServer:
    password = "a%redis secret"

    def __init__(self, program: Path, folder: Path) -> None:
        (self.port,) = free_ports(1)
        folder.mkdir(parents=True, exist_ok=True)
        where = ["--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(folder)]
        keep = ["--appendonly", "yes", "--appendfsync", "always", "--save", ""]
        command = [str(program), *where, *keep, "--requirepass", self.password]
        self.process = Process(command, folder / "redis.log")

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    @property
    def credentials_url(self) -> str:
        return f"redis://:{quote(self.password)}@127.0.0.1:{self.port}"

    def start(self) -> None:
        self.process.start()
        wait_until(self._ready, 30, "Redis", [self.process])

    def kill(self) -> None:
        self.process.kill()

    def close(self) -> None:
        self.process.close()

    def _ready(self) -> bool:
        try:
            with redis.Redis.from_url(self.credentials_url, socket_timeout=2) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False
