"""An HTTP server before a real S3 server that spoils what passes, for tests of faults."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Optional
from urllib.parse import urlsplit

Spoil = Callable[[BaseHTTPRequestHandler, int, list[tuple[str, str]], bytes], bool]


class FaultyS3:
    """Forwards to `backend`; `before` may answer itself, `after` may spoil the answer (both return True then)."""

    def __init__(self, backend: str) -> None:
        self.before: Optional[Callable[[Any], bool]] = None
        self.after: Optional[Spoil] = None
        self.requests: list[tuple[str, str]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args: Any) -> None:
                pass

            def handle_any(self) -> None:
                length = int(self.headers.get("Content-Length", 0))
                if self.headers.get("Expect"):
                    self.send_response_only(100)
                    self.end_headers()
                body = self.rfile.read(length)
                outer.requests.append((self.command, self.path))
                if outer.before and outer.before(self):
                    return
                connection = http.client.HTTPConnection(urlsplit(backend).netloc, timeout=20)
                headers = {k: v for k, v in self.headers.items() if k.lower() != "expect"}
                connection.request(self.command, self.path, body, headers)
                answer = connection.getresponse()
                content = answer.read()
                pairs = [(k, v) for k, v in answer.getheaders() if k.lower() not in ("transfer-encoding", "connection")]
                if outer.after and outer.after(self, answer.status, pairs, content):
                    return
                self.answer(answer.status, pairs, content)

            def answer(self, status: int, headers: list[tuple[str, str]], content: bytes) -> None:
                self.send_response_only(status)
                for name, value in headers:
                    if not (name.lower() == "content-length" and self.command != "HEAD"):
                        self.send_header(name, value)
                if self.command != "HEAD":
                    self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(content)

            def refuse(self, status: int, code: str) -> bool:
                xml = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>no</Message></Error>"
                self.answer(status, [("Content-Type", "application/xml")], xml.encode())
                return True

            do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = handle_any

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()
