"""POST over pooled connections with one deadline for the whole exchange; knows nothing of queries.

http.client, not requests: a deadline that a dribbling server cannot stretch needs each receive to wait no longer than
the time that is left, and a round trip costs a third (see ARCHITECTURE.md). Foreign exceptions end here.
"""

from __future__ import annotations

import base64
import http.client
import io
import select
import socket
import ssl
import time
from collections import deque
from typing import Any, NamedTuple, Optional
from urllib.parse import quote, urlsplit

from outliers.errors import ConfigError, DruidFailed, DruidTimeout, DruidUnreachable

_CHUNK = 1 << 18
_SAFE = "/%~:@!$&'()*+,;="  # of a path that is written as it was given
_IDLE_S = 60.0  # a connection unused for longer is not used again: firewalls forget silently


class Reply(NamedTuple):
    status: int
    headers: http.client.HTTPMessage
    body: bytes


class _Idle(NamedTuple):
    connection: http.client.HTTPConnection
    since_s: float


class Transport:
    """Connections to one endpoint, kept open between calls; safe to use from many threads."""

    def __init__(
        self,
        endpoint: str,
        *,
        connect_timeout_s: float = 2.0,
        max_answer_bytes: int = 64 << 20,
        ca_file: Optional[str] = None,
        user: Optional[str] = None,
        password: Optional[str] = None,
    ) -> None:
        url = urlsplit(endpoint)
        if url.scheme not in ("http", "https") or not url.hostname:
            raise ConfigError("the Druid endpoint is not an http or https address")
        try:
            self._host, self._port = url.hostname, url.port
            self._tls = ssl.create_default_context(cafile=ca_file or None) if url.scheme == "https" else None
        except (OSError, ValueError) as error:
            raise ConfigError(f"the Druid endpoint or its CA file cannot be used: {error}") from error
        self._connect_timeout_s = connect_timeout_s
        self._max_answer_bytes = max_answer_bytes
        self._idle: deque[_Idle] = deque(maxlen=64)
        lines = [
            f"POST {quote(url.path or '/druid/v2/', safe=_SAFE)} HTTP/1.1",
            f"Host: {url.netloc.rpartition('@')[2].encode('idna').decode()}",
            "Content-Type: application/json",
            "Accept: application/json",
            "Accept-Encoding: identity",
        ]
        user, password = user or url.username, password or url.password
        if user:
            token = base64.b64encode(f"{user}:{password or ''}".encode()).decode("ascii")
            lines.append(f"Authorization: Basic {token}")
        self._head = "\r\n".join([*lines, "Content-Length: "]).encode()

    def post(self, body: bytes, timeout_s: float) -> Reply:
        """Send and read one answer within `timeout_s`; a connection that fails before an answer is retried once.

        Raises DruidUnreachable, DruidTimeout, or DruidFailed for a cut-off, oversized or unreadable answer.
        """
        deadline = time.monotonic() + timeout_s
        try:
            try:
                return self._exchange(self._pooled() or self._connect(deadline), body, deadline)
            except (ConnectionError, http.client.BadStatusLine):
                return self._exchange(self._connect(deadline), body, deadline)
        except socket.timeout as error:
            raise DruidTimeout(f"Druid did not answer within {timeout_s:.3g} seconds") from error
        except http.client.IncompleteRead as error:
            raise DruidFailed("Druid's answer was cut off") from error
        except ConnectionError as error:
            raise DruidUnreachable("Druid cannot be reached, or closes the connection") from error
        except http.client.HTTPException as error:
            raise DruidFailed("Druid's answer is not HTTP") from error
        except OSError as error:
            raise DruidUnreachable("Druid cannot be reached") from error

    def close(self) -> None:
        """Close the idle connections."""
        while self._idle:
            self._idle.pop().connection.close()

    def _pooled(self) -> Optional[http.client.HTTPConnection]:
        """The connection used last that is still open, None if there is none."""
        while True:
            try:
                idle = self._idle.pop()
            except IndexError:
                return None
            sock = idle.connection.sock
            if sock is not None and time.monotonic() - idle.since_s < _IDLE_S:
                # Nothing may arrive on an idle connection: readable means that the other end has closed it.
                poll = select.poll()
                poll.register(sock, select.POLLIN)
                if not poll.poll(0):
                    return idle.connection
            idle.connection.close()

    def _connect(self, deadline: float) -> http.client.HTTPConnection:
        timeout_s = min(self._connect_timeout_s, _left(deadline))
        connection: http.client.HTTPConnection
        if self._tls is not None:
            connection = http.client.HTTPSConnection(self._host, self._port, timeout=timeout_s, context=self._tls)
        else:
            connection = http.client.HTTPConnection(self._host, self._port, timeout=timeout_s)
        try:
            connection.connect()
        except socket.timeout as error:
            raise DruidUnreachable(f"Druid did not accept a connection within {timeout_s:.3g} seconds") from error
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def _exchange(self, connection: http.client.HTTPConnection, body: bytes, deadline: float) -> Reply:
        reusable = False
        try:
            connection.sock.settimeout(_left(deadline))
            # All in one packet: http.client's own request sends head and body apart, which costs both ends a wake-up.
            connection.sock.sendall(b"%b%d\r\n\r\n%b" % (self._head, len(body), body))
            receiving: Any = _Receiving(connection.sock, deadline)
            response = http.client.HTTPResponse(receiving, method="POST")
            response.begin()
            content = self._read(response)
            response.close()  # read1 leaves one with a Content-Length open, and the connection unusable
            reusable = not response.will_close
            return Reply(response.status, response.headers, content)
        finally:
            if reusable:
                self._idle.append(_Idle(connection, time.monotonic()))
            else:
                connection.close()

    def _read(self, response: http.client.HTTPResponse) -> bytes:
        if response.length is not None and response.length > self._max_answer_bytes:
            raise self._too_large()
        chunks, size, expected = [], 0, response.length
        while True:
            try:
                chunk = response.read1(_CHUNK)
            except ConnectionError as error:  # the answer had begun: not to be retried
                raise DruidFailed("Druid's answer was cut off") from error
            if not chunk:
                break
            size += len(chunk)
            if size > self._max_answer_bytes:
                raise self._too_large()
            chunks.append(chunk)
        if expected is not None and size < expected:
            raise DruidFailed("Druid's answer was cut off")
        return b"".join(chunks)

    def _too_large(self) -> DruidFailed:
        return DruidFailed(f"Druid's answer is larger than {self._max_answer_bytes / (1 << 20):.4g} MB")


class _Receiving(io.RawIOBase):
    """What a socket receives until a deadline: head, sizes of chunks and body alike. socket.timeout after it."""

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self._sock, self._deadline = sock, deadline

    def makefile(self, mode: str) -> io.BufferedReader:
        """What HTTPResponse reads from."""
        return io.BufferedReader(self)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._sock.settimeout(_left(self._deadline))
        return self._sock.recv_into(buffer)


def _left(deadline: float) -> float:
    """Seconds left; socket.timeout when there are none."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise socket.timeout("deadline")
    return left
