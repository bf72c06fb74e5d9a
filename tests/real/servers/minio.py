"""MinIO, an S3 server with conditional writes; it must not know what is stored in it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
import requests
from botocore.config import Config

from tests.real.servers.process import Process, free_ports
from tests.real.servers.single import SingleServer

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

REGION = "us-east-1"


class Minio(SingleServer):
    """One MinIO over `folder`; stopped and started again, it has the same objects."""

    name = "MinIO"
    user = "outliers-test"
    secret = "a%secret with a percent"  # `%` must survive every config reader

    def __init__(self, program: Path, folder: Path) -> None:
        self.port, console = free_ports(2)
        data = folder / "data"
        data.mkdir(parents=True, exist_ok=True)
        addresses = ["--address", f"127.0.0.1:{self.port}", "--console-address", f"127.0.0.1:{console}"]
        home = {"HOME": str(folder)}  # it makes a folder there
        environ = {**os.environ, **home, "MINIO_ROOT_USER": self.user, "MINIO_UPDATE": "off"}
        self.process = Process([str(program), "server", *addresses, str(data)], folder / "minio.log", environ=environ)
        self.accept(self.secret)

    def accept(self, secret: str) -> None:
        """Take this secret, and no other, from the next start on."""
        self.process.environ["MINIO_ROOT_PASSWORD"] = secret

    def make_bucket(self, name: str) -> None:
        s3_client(self.url, self.user, self.secret).create_bucket(Bucket=name)

    def ready(self) -> bool:
        try:
            return requests.get(f"{self.url}/minio/health/ready", timeout=2).ok
        except requests.RequestException:
            return False


def s3_client(url: str, user: str, secret: str) -> S3Client:
    """Look at the objects past the service."""
    return boto3.client(
        "s3",
        endpoint_url=url,
        aws_access_key_id=user,
        aws_secret_access_key=secret,
        region_name=REGION,
        config=Config(s3={"addressing_style": "path"}),
    )
