"""A server that is one process on one port; it must not know which program that is, nor what it is asked."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from tests.real.servers.process import Process, wait_until


class SingleServer(ABC):
    """Started, killed and started again on the same port; a subclass makes `port` and `process`."""

    name: ClassVar[str]
    scheme: ClassVar[str] = "http"
    user: ClassVar[str] = ""
    secret: ClassVar[str] = ""
    port: int
    process: Process

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"

    def start(self) -> None:
        self.process.start()
        wait_until(self.ready, 60, self.name, [self.process])

    def kill(self) -> None:
        self.process.kill()

    def close(self) -> None:
        self.process.close()

    @abstractmethod
    def ready(self) -> bool:
        """Whether it would serve a request now; False too while nobody answers."""
