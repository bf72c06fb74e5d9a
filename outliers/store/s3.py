"""Files in an S3 bucket, any S3-compatible one: conditional PUTs, time-outs, bounded retries; not what the files are.

boto3 is imported when the first request is made: it takes a second and 40 MB, and a directory store needs none of it.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Optional

from outliers.config import Aws
from outliers.errors import Conflict, NotFound, StoreUnavailable
from outliers.store.base import ANYTHING, File

PREFIX = "rbaioutliers/"
CONNECT_TIMEOUT_S, READ_TIMEOUT_S, ATTEMPTS = 3, 20, 3
PAGE = 1000  # entries of a listing in one answer

_ABSENT = {"NoSuchKey", "404", "NotFound"}
_LOST = {"PreconditionFailed", "412", "ConditionalRequestConflict", "409"}
_UNCONDITIONAL = {"NotImplemented", "501", "InvalidArgument", "InvalidRequest", "MethodNotAllowed"}
_CREDENTIALS = {"InvalidAccessKeyId", "SignatureDoesNotMatch", "AccessDenied", "403", "401", "InvalidToken",
                "ExpiredToken", "Unauthorized", "AuthorizationHeaderMalformed", "TokenRefreshRequired"}  # fmt: skip

log = logging.getLogger(__name__)


class S3Files:
    def __init__(self, aws: Aws) -> None:
        self._aws = aws
        self._lock = threading.Lock()
        self._made: Any = None
        self.conditional = True  # False once the place refused a conditional write

    @property
    def _client(self) -> Any:
        with self._lock:
            if self._made is None:
                self._made = _client(self._aws)
            return self._made

    def prepare(self) -> None:
        """Make the client now, without a request: what a process does before it forks, so that no child has to."""
        assert self._client

    def list(self, prefix: str) -> dict[str, File]:
        found = {}
        with _translated():
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._aws.bucket, Prefix=PREFIX + prefix, Delimiter="/", PaginationConfig={"PageSize": PAGE}
            )
            for page in pages:
                for entry in page.get("Contents", ()):
                    found[entry["Key"][len(PREFIX) :]] = File(
                        entry["ETag"], entry["Size"], entry["LastModified"].timestamp()
                    )
        return found

    def exists(self) -> bool:
        return True  # a bucket that is gone is an error of its listing

    def stat(self, path: str) -> File:
        with _translated():
            answer = self._client.head_object(Bucket=self._aws.bucket, Key=PREFIX + path)
            return _file(answer, answer["ContentLength"])

    def read(self, path: str) -> tuple[bytes, File]:
        for attempt in range(ATTEMPTS):
            with _translated():
                answer = self._client.get_object(Bucket=self._aws.bucket, Key=PREFIX + path)
                try:
                    data = answer["Body"].read()
                except _broken_body() as error:
                    if attempt == ATTEMPTS - 1:
                        raise StoreUnavailable("S3 cut its answer off") from error
                    continue
                if len(data) == answer["ContentLength"]:
                    return data, _file(answer, len(data))
        raise StoreUnavailable("S3 cut its answer off")

    def write(
        self, path: str, data: bytes, metadata: Mapping[str, str], expected: Optional[str], twin: str = ""
    ) -> File:
        put = {"Bucket": self._aws.bucket, "Key": PREFIX + path, "Body": data, "Metadata": dict(metadata)}
        if expected == ANYTHING or not self.conditional:
            return self._write_compared(put, path, data, metadata, expected)
        condition = {"IfNoneMatch": "*"} if expected is None else {"IfMatch": expected}
        with _translated():
            try:
                return _file(self._client.put_object(**put, **condition), len(data), metadata)
            except _client_error() as error:
                code = _code(error)
                if code in _LOST or (code in _ABSENT and expected is not None):
                    return self._ours_after_all(path, data, metadata, error)
                if code not in _UNCONDITIONAL:
                    raise
        self.conditional = False
        log.warning("this S3 refuses conditional writes: of two trainers at one model both may believe to have won")
        return self._write_compared(put, path, data, metadata, expected)

    def _ours_after_all(self, path: str, data: bytes, metadata: Mapping[str, str], error: Exception) -> File:
        """A write whose answer was lost is sent again by boto3 and then meets itself: that is no conflict."""
        try:
            there = self.stat(path)
        except NotFound:
            raise Conflict("another file was there") from error
        if metadata and dict(there.metadata) == dict(metadata) and there.size_bytes == len(data):
            return there
        raise Conflict("another file is there") from error

    def _write_compared(
        self, put: dict[str, Any], path: str, data: bytes, metadata: Mapping[str, str], expected: Optional[str]
    ) -> File:
        """Write without a condition, comparing before and after; a narrow race is left."""
        if expected != ANYTHING and self._etag(path) != expected:
            raise Conflict("another file is there")
        with _translated():
            file = _file(self._client.put_object(**put), len(data), metadata)
        if expected != ANYTHING and self._etag(path) != file.etag:
            raise Conflict("another file was put there at the same time")
        return file

    def _etag(self, path: str) -> str | None:
        try:
            return self.stat(path).etag
        except NotFound:
            return None

    def remove(self, paths: Iterable[str]) -> None:
        with _translated():
            for path in paths:  # one by one: bulk deletion wants an MD5 that not every S3 and FIPS host agree on
                self._client.delete_object(Bucket=self._aws.bucket, Key=PREFIX + path)


def _client(aws: Aws) -> Any:
    import boto3
    import botocore.config

    with _translated():
        return boto3.session.Session().client(
            "s3",
            endpoint_url=aws.hostname or None,
            region_name=aws.region,
            aws_access_key_id=aws.public_key or None,
            aws_secret_access_key=aws.private_key or None,
            config=botocore.config.Config(
                signature_version="s3v4",
                connect_timeout=CONNECT_TIMEOUT_S,
                read_timeout=READ_TIMEOUT_S,
                retries={"total_max_attempts": ATTEMPTS, "mode": "standard"},
                max_pool_connections=16,
                s3={"addressing_style": "path" if aws.hostname else "auto"},
                # S3-compatible servers know none of the newer checksums; ours is in the metadata
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )


def _file(answer: Mapping[str, Any], size_bytes: int, metadata: Mapping[str, str] | None = None) -> File:
    modified = answer["LastModified"].timestamp() if "LastModified" in answer else time.time()
    return File(
        answer["ETag"], size_bytes, modified, dict(answer.get("Metadata", {}) if metadata is None else metadata)
    )


def _code(error: Any) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _client_error() -> Any:
    import botocore.exceptions

    return botocore.exceptions.ClientError


def _broken_body() -> tuple[type[Exception], ...]:
    import botocore.exceptions as e
    import urllib3.exceptions

    return (e.IncompleteReadError, e.ResponseStreamingError, e.ReadTimeoutError, urllib3.exceptions.HTTPError, OSError)


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """Turn botocore's errors into the store's; what S3 said in full is the cause, for the log."""
    import botocore.exceptions as e

    try:
        yield
    except e.ClientError as error:
        raise _of_code(_code(error), error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)) from error
    except (e.NoCredentialsError, e.PartialCredentialsError) as error:
        raise StoreUnavailable("there are no S3 credentials: set s3_public_key and s3_private_key in [AWS]") from error
    except (e.ConnectTimeoutError, e.ReadTimeoutError) as error:
        raise StoreUnavailable("S3 did not answer in time") from error
    except e.EndpointConnectionError as error:
        raise StoreUnavailable("S3 cannot be reached") from error
    except e.SSLError as error:
        raise StoreUnavailable("S3's certificate is not accepted") from error
    except (e.ParamValidationError, ValueError) as error:
        raise StoreUnavailable(
            "the settings of [AWS] cannot be used: bucket, region or address is malformed"
        ) from error
    except (e.BotoCoreError, e.HTTPClientError) as error:
        raise StoreUnavailable(f"S3 failed ({type(error).__name__})") from error


def _of_code(code: str, status: int) -> Exception:
    if code in _ABSENT:
        return NotFound("there is no such object in S3")
    if code == "NoSuchBucket":
        return StoreUnavailable("the S3 bucket of the configuration does not exist")
    if code in _CREDENTIALS:
        return StoreUnavailable(f"S3 refuses the credentials of the configuration ({code})")
    if code in _LOST:
        return Conflict("another object is there")
    if code == "RequestTimeTooSkewed":
        return StoreUnavailable("S3 refuses requests because this node's clock is wrong")
    return StoreUnavailable(f"S3 failed ({code or 'no reason given'}, status {status})")
