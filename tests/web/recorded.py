"""A broker over HTTP that repeats what a real Druid 33 answered, word for word; it knows no other answers.

`tests/data/druid_cases.jsonl.gz` was recorded from Apache Druid 33.0.0: one line a query with its exact answer.
"""

from __future__ import annotations

import gzip
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Optional

CASES = Path(__file__).parents[1] / "data" / "druid_cases.jsonl.gz"


def cases() -> dict[str, dict[str, Any]]:
    with gzip.open(CASES, "rt", encoding="utf-8") as file:
        return {case["name"]: case for case in map(json.loads, file)}


class Recorded:
    """Answers recorded queries, `extra` rows for others, and time boundaries as they are set.

    first, newest: ISO times that timeBoundary tells, None = no event. uncovered: intervals told in the header.
    """

    def __init__(self) -> None:
        self.known = {key(case["query"]): case for case in cases().values() if isinstance(case["query"], dict)}
        self.first: Optional[str] = "2025-10-05T00:00:00.000Z"
        self.newest: Optional[str] = "2025-10-26T12:00:00.000Z"
        self.extra: dict[str, list[Any]] = {}
        self.uncovered: list[str] = []
        self.asked: list[Any] = []
        self.failing: Optional[int] = None
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/druid/v2/"

    def answer(self, query: Any) -> tuple[int, str]:
        self.asked.append(query)
        if self.failing is not None:
            return self.failing, json.dumps({"errorClass": "java.lang.RuntimeException", "errorMessage": "secret-host"})
        if query.get("queryType") == "timeBoundary":
            bound = query.get("bound", "maxTime")
            at = self.newest if bound == "maxTime" else self.first
            return 200, json.dumps([] if at is None else [{"timestamp": at, "result": {bound: at}}])
        if key(query) in self.extra:
            return 200, json.dumps(self.extra[key(query)])
        case = self.known.get(key(query))
        return (200, "[]") if case is None else (case["status"], case["body"])

    def timeseries(self) -> list[Any]:
        """Queries that asked for rows, in the order in which they came."""
        return [query for query in self.asked if query.get("queryType") == "timeseries"]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def key(query: Any) -> str:
    """What a query is known by: all but what the service adds to its context."""
    context = {k: v for k, v in (query.get("context") or {}).items() if k not in ("timeout", "uncoveredIntervalsLimit")}
    return json.dumps({**query, "context": context}, sort_keys=True)


def _handler(recorded: Recorded) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            pass

        def do_POST(self) -> None:
            status, text = recorded.answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            body = text.encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            if recorded.uncovered:
                told = json.dumps({"uncoveredIntervals": recorded.uncovered})
                self.send_header("X-Druid-Response-Context", told)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    return Handler
