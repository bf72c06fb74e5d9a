"""The broker's HTTP side: routes, headers, and faults on demand; knows nothing of what the queries mean."""

from __future__ import annotations

import contextlib
import json
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Optional, cast
from urllib.parse import urlsplit

import orjson

from outliers.druid.simulator import refusal
from outliers.druid.simulator.engine import Answer, Engine
from outliers.druid.simulator.refusal import Refusal


@dataclass
class Faults:
    """What goes wrong on purpose, for tests; set the fields of a running simulator's `faults`, `clear()` ends it.

    delay_s: before every answer. status, error_class: answer this instead. html: a proxy's page with 200.
    cut_off: close the connection in mid-answer. garbage: 200 with something that is no JSON.
    no_answer: close the connection without a byte. dribble_s: seconds between the bytes of an answer.
    uncovered: intervals [(start_s, end_s)] whose rows are left out of a 200 and told only in the header.
    only: apply them to queries for which this is true; None = to all.
    """

    delay_s: float = 0.0
    status: int = 200
    error_class: str = "java.lang.RuntimeException"
    html: bool = False
    cut_off: bool = False
    garbage: bool = False
    no_answer: bool = False
    dribble_s: float = 0.0
    uncovered: list[tuple[int, int]] = field(default_factory=list)
    only: Optional[Callable[[Any], bool]] = None

    def clear(self) -> None:
        """Let everything be well again."""
        self.__init__()  # type: ignore[misc]


class Broker(ThreadingHTTPServer):
    """An HTTP server around an engine. asked: every query that came, oldest first (the last 1,000)."""

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], engine: Engine, sources: Mapping[str, Any], faults: Faults) -> None:
        super().__init__(address, _Handler)
        self.engine, self.sources, self.faults = engine, sources, faults
        self.asked: list[Any] = []
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()

    def remember(self, query: Any) -> None:
        """Keep a query for `asked`."""
        with self._lock:
            self.asked.append(query)
            del self.asked[:-1000]

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def hang_up(self) -> None:
        """Close every open connection, as a broker does that was killed."""
        with self._lock:
            connections = list(self._open)
        for connection in connections:
            with contextlib.suppress(OSError):  # it is closed already
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say what went wrong here; a client that hangs up is no error of the broker's."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # headers and body leave in one packet

    @property
    def broker(self) -> Broker:
        return cast(Broker, self.server)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: a query a line would drown everything else."""

    def do_GET(self) -> None:
        path = urlsplit(self.path).path.rstrip("/")
        if path == "/status/health":
            self._send(200, b"true")
        elif path == "/status":
            self._send(200, orjson.dumps({"version": "33.0.0", "modules": []}))
        elif path == "/druid/broker/v1/readiness":
            self._send(200, b"")
        elif path == "/druid/v2/datasources":
            self._send(200, orjson.dumps(sorted(self.broker.sources)))
        elif path.startswith("/druid/v2/datasources/"):
            self._send(200, orjson.dumps(self._described(path.split("/")[4])))
        else:
            self._send(404, b"", content_type="text/html")

    def do_POST(self) -> None:
        url = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if url.path.rstrip("/") != "/druid/v2":
            self._send(404, b"", content_type="text/html")
            return
        try:
            query = _json(body)
            self.broker.remember(query)
            answer = self._answer(query)
        except Refusal as refused:
            self._send(refused.status, orjson.dumps(refused.body))
            return
        pretty = orjson.OPT_INDENT_2 if "pretty" in url.query else 0
        headers = {"X-Druid-Query-Id": str(_context(query).get("queryId") or "simulated")}
        if answer.context:
            headers["X-Druid-Response-Context"] = json.dumps(answer.context, separators=(",", ":"))
        faults = self._faults(query)
        content = orjson.dumps(answer.rows, option=pretty)
        if faults is not None and faults.html:
            self._send(200, b"<html><body><h1>It works!</h1></body></html>", content_type="text/html")
        elif faults is not None and faults.garbage:
            self._send(200, content[: len(content) // 2] + b"\x00oops")
        else:
            self._send(200, content, headers, faults)

    def _answer(self, query: Any) -> Answer:
        faults = self._faults(query)
        if faults is None:
            return self.broker.engine.answer(query)
        if faults.delay_s:
            self._wait(query, faults.delay_s)
        if faults.no_answer:
            self.close_connection = True
            raise ConnectionAbortedError("on purpose")
        if faults.status != 200:
            error = {"error": "Unknown exception", "errorMessage": "on purpose", "errorClass": faults.error_class}
            raise Refusal(faults.status, error)
        answer = self.broker.engine.answer(query)
        return _without(answer, faults.uncovered, query) if faults.uncovered else answer

    def _wait(self, query: Any, delay_s: float) -> None:
        timeout_ms = _context(query).get("timeout")
        if isinstance(timeout_ms, int) and 0 < timeout_ms < delay_s * 1000:
            time.sleep(timeout_ms / 1000)
            raise refusal.timed_out("simulated")
        time.sleep(delay_s)

    def _faults(self, query: Any) -> Optional[Faults]:
        faults = self.broker.faults
        return faults if faults != Faults() and (faults.only is None or faults.only(query)) else None

    def _described(self, name: str) -> dict[str, Any]:
        table = self.broker.sources.get(name)
        extent = table.extent() if table is not None else None
        if table is None or extent is None:
            return {"dimensions": [], "metrics": []}
        block = next(iter(table.blocks(extent[1] - 86_400_000, extent[1], None)), None)
        if block is None:
            return {"dimensions": [], "metrics": []}
        return {"dimensions": list(block.texts), "metrics": [*block.numbers, *block.sketches]}

    def _send(
        self,
        status: int,
        content: bytes,
        headers: Optional[Mapping[str, str]] = None,
        faults: Optional[Faults] = None,
        content_type: str = "application/json",
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(content)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        if faults is not None and faults.cut_off:
            content, self.close_connection = content[: len(content) // 2], True
        if faults is not None and faults.dribble_s:
            for i in range(len(content)):
                self.wfile.write(content[i : i + 1])
                self.wfile.flush()
                time.sleep(faults.dribble_s)
        else:
            self.wfile.write(content)
        self.wfile.flush()


def _json(body: bytes) -> Any:
    if not body.strip():
        raise refusal.wrong_shape()
    try:
        return json.loads(body)
    except ValueError as error:
        raise refusal.not_json(str(error)) from error


def _context(query: Any) -> Mapping[str, Any]:
    context = query.get("context") if isinstance(query, Mapping) else None
    return context if isinstance(context, Mapping) else {}


def _without(answer: Answer, uncovered: list[tuple[int, int]], query: Any) -> Answer:
    """Leave rows out, as when the node that holds their days has died."""
    from outliers.series import Interval
    from outliers.times import parse_instant_ms

    def held(row: dict[str, Any]) -> bool:
        at_s = parse_instant_ms(row["timestamp"]) / 1000 if row.get("timestamp") else -1
        return not any(start_s <= at_s < end_s for start_s, end_s in uncovered)

    told = dict(answer.context)
    if _context(query).get("uncoveredIntervalsLimit"):
        lost = [str(Interval(start_s * 1000, end_s * 1000)) for start_s, end_s in uncovered]
        told["uncoveredIntervals"] = [*told.get("uncoveredIntervals", []), *lost]
    return Answer([row for row in answer.rows if held(row)], told)
