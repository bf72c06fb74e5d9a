"""MinIO, an S3 server with conditional writes; it must not know what is stored in it."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import quote

import requests

from tests.real.servers.process import Process, free_ports, wait_until

REGION = "us-east-1"


class Minio:
    """One MinIO over `folder`; stopped and started again, it has the same objects."""

    access_key = "outliers-test"
    secret_key = "a%secret with a percent"  # `%` must survive every config reader

    def __init__(self, program: Path, folder: Path) -> None:
        self.port, console = free_ports(2)
        data = folder / "data"
        data.mkdir(parents=True, exist_ok=True)
        addresses = ["--address", f"127.0.0.1:{self.port}", "--console-address", f"127.0.0.1:{console}"]
        environ = {
            **os.environ,
            "MINIO_ROOT_USER": self.access_key,
            "MINIO_ROOT_PASSWORD": self.secret_key,
            "MINIO_UPDATE": "off",
        }
        self.process = Process([str(program), "server", *addresses, str(data)], folder / "minio.log", environ=environ)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def credentials_url(self) -> str:
        return f"http://{self.access_key}:{quote(self.secret_key)}@127.0.0.1:{self.port}"

    def start(self) -> None:
        self.process.start()
        wait_until(self._ready, 60, "MinIO", [self.process])

    def kill(self) -> None:
        self.process.kill()

    def close(self) -> None:
        self.process.close()

    def _ready(self) -> bool:
        try:
            return requests.get(f"{self.url}/minio/health/ready", timeout=2).ok
        except requests.RequestException:
            return False
