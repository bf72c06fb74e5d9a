"""A store of each kind: a directory, and S3 spoken over HTTP to moto's server."""

from __future__ import annotations

import dataclasses
import logging
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from outliers.config import Aws, Config
from outliers.store import Store, open_store


@pytest.fixture(scope="session")
def s3_address() -> Iterator[str]:
    server_module = pytest.importorskip("moto.server", reason="no S3 server: moto is not installed")
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3_config(s3_address: str) -> Config:
    import boto3

    bucket = f"bucket-{uuid.uuid4().hex}"
    aws = Aws(hostname=s3_address, public_key="a-key", private_key="a%secret/with+signs", bucket=bucket)
    client = boto3.client(
        "s3", endpoint_url=s3_address, region_name=aws.region,
        aws_access_key_id=aws.public_key, aws_secret_access_key=aws.private_key,
    )  # fmt: skip
    client.create_bucket(Bucket=bucket)
    config = Config()
    return dataclasses.replace(config, aws=aws, store=dataclasses.replace(config.store, kind="s3"))


@pytest.fixture
def directory_config(tmp_path: Path) -> Config:
    config = Config()
    return dataclasses.replace(
        config, store=dataclasses.replace(config.store, kind="directory", directory=str(tmp_path / "store"))
    )


@pytest.fixture(params=["directory", "s3"])
def config(request: pytest.FixtureRequest) -> Config:
    found: Config = request.getfixturevalue(f"{request.param}_config")
    return found


@pytest.fixture
def store(config: Config) -> Store:
    return open_store(config)
