"""MinIO, an S3 server with conditional writes; it must not know what is stored in it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import boto3
import requests
from botocore.config import Config

from tests.real.servers.process import Process, free_ports, wait_until

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

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

    def make_bucket(self, name: str) -> None:
        self.client().create_bucket(Bucket=name)

    def client(self) -> S3Client:
        """Look at the objects past the service."""
        return s3_client(self.url, self.access_key, self.secret_key)

    def kill(self) -> None:
        self.process.kill()

    def close(self) -> None:
        self.process.close()

    def _ready(self) -> bool:
        try:
            return requests.get(f"{self.url}/minio/health/ready", timeout=2).ok
        except requests.RequestException:
            return False


def s3_client(url: str, user: str, secret: str) -> S3Client:
    return boto3.client(
        "s3",
        endpoint_url=url,
        aws_access_key_id=user,
        aws_secret_access_key=secret,
        region_name=REGION,
        config=Config(s3={"addressing_style": "path"}),
    )
