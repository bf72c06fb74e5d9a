"""What S3 does wrong, and what the store then says and leaves behind."""

from __future__ import annotations

import dataclasses
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest
from faulty_s3 import FaultyS3

import outliers.store.s3 as s3
from outliers.config import Config
from outliers.errors import Conflict, ModelInvalid, NotFound, StoreError, StoreUnavailable
from outliers.store import Store, new_version, open_store


@pytest.fixture
def faulty(s3_config: Config) -> Iterator[FaultyS3]:
    server = FaultyS3(s3_config.aws.hostname)
    yield server
    server.stop()


@pytest.fixture
def store(s3_config: Config, faulty: FaultyS3) -> Store:
    return open_at(s3_config, faulty.address)


def open_at(config: Config, hostname: str, **changes: str) -> Store:
    return open_store(dataclasses.replace(config, aws=dataclasses.replace(config.aws, hostname=hostname, **changes)))


def publish(store: Store, name: str, onnx: bytes) -> Any:
    expected = store.head(name) if name in store.latest() else None
    return store.publish(name, new_version(), onnx, None, expected)


def test_keys_are_the_contract(store: Store, s3_config: Config) -> None:
    version = store.publish("Flow.Sensor", new_version(), b"one", b"w", None).version
    import boto3

    client = boto3.client(
        "s3", endpoint_url=s3_config.aws.hostname, region_name="us-east-1",
        aws_access_key_id="a", aws_secret_access_key="b",
    )  # fmt: skip
    keys = [entry["Key"] for entry in client.list_objects_v2(Bucket=s3_config.aws.bucket)["Contents"]]
    assert keys == [
        "rbaioutliers/latest/Flow%2ESensor.onnx",
        f"rbaioutliers/models/Flow%2ESensor/{version}.onnx",
        f"rbaioutliers/models/Flow%2ESensor/{version}.pt",
    ]
    metadata = client.head_object(Bucket=s3_config.aws.bucket, Key=keys[0])["Metadata"]
    assert metadata["version"] == version
    assert len(metadata["sha256"]) == 64


def test_listing_of_many_pages_is_whole(store: Store, faulty: FaultyS3, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3, "PAGE", 7)
    for n in range(23):
        store.files.write(f"latest/n{n}.onnx", b"x", {}, expected="*")
    faulty.requests.clear()
    assert set(store.latest()) == {f"n{n}" for n in range(23)}
    assert len(faulty.requests) == 4


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        (403, "SignatureDoesNotMatch", "refuses the credentials"),
        (403, "InvalidAccessKeyId", "refuses the credentials"),
        (403, "AccessDenied", "refuses the credentials"),
        (404, "NoSuchBucket", "bucket of the configuration does not exist"),
        (403, "RequestTimeTooSkewed", "clock is wrong"),
        (400, "Whatever", "S3 failed"),
        (500, "InternalError", "S3 failed"),
        (503, "SlowDown", "S3 failed"),
    ],
)
def test_refusal_is_told_in_a_sentence(store: Store, faulty: FaultyS3, status: int, code: str, words: str) -> None:
    faulty.before = lambda handler: handler.refuse(status, code)
    asks = (store.latest, lambda: store.get_latest("a"), lambda: store.put_filter("a", {}))
    for ask in asks if status < 500 else asks[:1]:  # 5xx are tried again, after a pause
        with pytest.raises(StoreUnavailable, match=words) as caught:
            ask()
        assert "127.0.0.1" not in str(caught.value)
    assert len(faulty.requests) <= 3 * s3.ATTEMPTS


def test_server_that_is_gone_is_unavailable_and_then_back(store: Store, faulty: FaultyS3, s3_config: Config) -> None:
    publish(store, "a", b"one")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nobody = open_at(s3_config, f"http://127.0.0.1:{free.getsockname()[1]}")
        with pytest.raises(StoreUnavailable, match="cannot be reached"):
            nobody.latest()
    assert store.get_latest("a")[0] == b"one"


def test_server_that_hangs_is_given_up(s3_config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3, "READ_TIMEOUT_S", 0.2)
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        with pytest.raises(StoreUnavailable, match="did not answer in time"):
            open_at(s3_config, f"http://127.0.0.1:{deaf.getsockname()[1]}").latest()


def test_name_that_does_not_resolve_is_unreachable(s3_config: Config) -> None:
    with pytest.raises(StoreUnavailable, match="cannot be reached"):
        open_at(s3_config, "http://s3.invalid:9000").latest()


@pytest.mark.parametrize("bucket", ["Not A Bucket", "a"])
def test_bucket_name_that_cannot_be_is_said(s3_config: Config, bucket: str) -> None:
    with pytest.raises(StoreUnavailable):
        open_at(s3_config, s3_config.aws.hostname, bucket=bucket).latest()


def test_answer_cut_off_is_read_again(store: Store, faulty: FaultyS3) -> None:
    publish(store, "a", b"x" * 100_000)
    cuts = []

    def cut_once(handler: Any, status: int, headers: Any, content: bytes) -> bool:
        if handler.command != "GET" or cuts or len(content) < 100_000:
            return False
        cuts.append(1)
        return cut(handler, status, headers, content)

    faulty.after = cut_once
    assert store.get_latest("a")[0] == b"x" * 100_000
    assert cuts


def cut(handler: Any, status: int, headers: Any, content: bytes) -> bool:
    if handler.command != "GET" or b"<?xml" in content:
        return False
    handler.send_response_only(status)
    for name, value in headers:
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(content[: len(content) // 2])
    handler.close_connection = True
    handler.wfile.flush()
    handler.connection.shutdown(socket.SHUT_RDWR)
    return True


def test_answer_always_cut_off_is_unavailable(store: Store, faulty: FaultyS3) -> None:
    publish(store, "a", b"x" * 100_000)
    faulty.after = cut
    with pytest.raises(StoreUnavailable, match="cut its answer off"):
        store.get_latest("a")


def test_wrong_digest_is_refused(store: Store, faulty: FaultyS3) -> None:
    version = publish(store, "a", b"x" * 1000).version

    def flip(handler: Any, status: int, headers: Any, content: bytes) -> bool:
        if handler.command == "GET" and len(content) == 1000:
            handler.answer(status, headers, b"y" + content[1:])
            return True
        return False

    faulty.after = flip
    with pytest.raises(ModelInvalid, match="digest differs"):
        store.get_latest("a")
    with pytest.raises(ModelInvalid, match="digest differs"):
        store.get_version("a", version)


def test_write_whose_answer_was_lost_is_no_conflict(store: Store, faulty: FaultyS3) -> None:
    first = publish(store, "a", b"one")
    lost = []

    def lose(handler: Any, status: int, headers: Any, content: bytes) -> bool:
        if handler.command == "PUT" and "/latest/" in handler.path and not lost:
            lost.append(status)
            handler.close_connection = True
            handler.connection.shutdown(socket.SHUT_RDWR)
            return True
        return False

    faulty.after = lose
    second = store.publish("a", new_version(), b"two", None, first)
    assert lost == [200]
    assert store.head("a").version == second.version


@pytest.mark.parametrize(("status", "code"), [(501, "NotImplemented"), (400, "InvalidArgument")])
def test_s3_that_refuses_conditions_is_compared_and_said(
    store: Store, faulty: FaultyS3, caplog: pytest.LogCaptureFixture, status: int, code: str
) -> None:
    def refuse_conditions(handler: Any) -> bool:
        conditional = handler.headers.get("If-Match") or handler.headers.get("If-None-Match")
        return bool(conditional) and handler.refuse(status, code)

    faulty.before = refuse_conditions
    first = publish(store, "a", b"one")
    second = store.publish("a", new_version(), b"two", None, first)
    assert store.get_latest("a")[0] == b"two"
    assert "refuses conditional writes" in caplog.text
    assert not store.files.conditional
    with pytest.raises(Conflict):
        store.publish("a", new_version(), b"three", None, first)
    assert store.head("a").version == second.version


def test_another_write_between_compare_and_put_is_seen_afterwards(store: Store, faulty: FaultyS3) -> None:
    first = publish(store, "a", b"one")
    store.files.conditional = False

    def overtake(handler: Any, status: int, headers: Any, content: bytes) -> bool:
        if handler.command == "PUT" and "/latest/" in handler.path:
            faulty.after = None
            store.files.write("latest/a.onnx", b"other", {}, expected="*")
        return False

    faulty.after = overtake
    with pytest.raises(Conflict):
        store.publish("a", new_version(), b"two", None, first)
    assert store.get_latest("a")[0] == b"other"


def test_failure_in_the_middle_of_publishing_keeps_the_old_model(store: Store, faulty: FaultyS3) -> None:
    first = publish(store, "a", b"one")
    faulty.before = lambda h: h.command == "PUT" and "/latest/" in h.path and h.refuse(500, "InternalError")
    with pytest.raises(StoreUnavailable):
        store.publish("a", new_version(), b"two", None, first)
    faulty.before = None
    assert store.get_latest("a")[0] == b"one"
    assert store.publish("a", new_version(), b"three", None, first).version == store.head("a").version


def test_no_credentials_anywhere_is_said(s3_config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    with pytest.raises(StoreUnavailable, match="no S3 credentials"):
        open_at(s3_config, s3_config.aws.hostname, public_key="", private_key="").latest()


def test_every_error_of_botocore_is_translated() -> None:
    import botocore.exceptions as e

    kinds = [kind for kind in vars(e).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    assert len(kinds) > 30
    for kind in kinds:
        error = kind.__new__(kind)
        error.args = ("told by the library, with host and key",)
        if isinstance(error, e.ClientError):
            error.response = {"Error": {"Code": "Strange"}, "ResponseMetadata": {"HTTPStatusCode": 418}}
        if not isinstance(error, (e.BotoCoreError, e.ClientError, ValueError)):
            continue
        with pytest.raises(StoreError) as caught, s3._translated():
            raise error
        assert "host and key" not in str(caught.value)


def test_opening_asks_nothing(s3_config: Config) -> None:
    started = time.monotonic()
    open_at(s3_config, "http://s3.invalid:9000")
    assert time.monotonic() - started < 1


def test_unknown_object_is_not_found(store: Store) -> None:
    with pytest.raises(NotFound):
        store.files.read("latest/none.onnx")
