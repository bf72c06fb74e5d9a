"""How HTTP is served on a socket that is already listening, and how serving ends; must not know what is served.

waitress does the serving. What it lacks is here: JSON error bodies, and an end that resets no connection.
"""

from __future__ import annotations

import ctypes
import socket
import struct
import threading
import time
from typing import Any, Optional

import orjson
import waitress
from waitress import wasyncore
from waitress.channel import HTTPChannel
from waitress.server import BaseWSGIServer
from waitress.task import ErrorTask, ThreadedTaskDispatcher, WSGITask

IDLE_S = 1.0  # how long a kept-alive connection may still send a request while we end
CONNECTIONS = 1000
SO_ATTACH_FILTER = 26  # Linux; Python's socket module does not name it


class _Task(WSGITask):
    def build_response_header(self) -> bytes:
        if getattr(self.channel.server, "ending", False):
            self.set_close_on_finish()  # the client learns that its next request needs another connection
        return super().build_response_header()


class _ErrorTask(ErrorTask):
    """An error that waitress itself answers (no HTTP, too large): told in JSON as everywhere."""

    def execute(self) -> None:
        error = self.request.error
        body = orjson.dumps({"status": "error", "msg": f"{error.reason}: {error.body}"})
        self.status = f"{error.code} {error.reason}"
        self.response_headers.append(("Content-Type", "application/json"))
        self.set_close_on_finish()
        self.content_length = len(body)
        self.write(body)


class _Channel(HTTPChannel):
    task_class = _Task
    error_task_class = _ErrorTask


class _Doorman(ThreadedTaskDispatcher):
    """One thread beside those that work: what it answers waits for none of them."""

    def __init__(self) -> None:
        super().__init__()
        self.thread: Optional[int] = None
        self.set_thread_count(1)

    def handler_thread(self, thread_no: int) -> None:
        self.thread = threading.get_ident()
        super().handler_thread(thread_no)


class Server:
    """One process's share of a listening socket; `run` serves until `end`, which a signal handler may call.

    queue: most requests that wait for one of the `threads`. What comes then, and every GET (health, metrics), is
    handed to a thread of its own, so that neither waits for work that is slow: see `turned_away`.
    """

    def __init__(self, app: Any, listening: socket.socket, threads: int, body_bytes: int, queue: int = 64) -> None:
        listening.setblocking(False)
        server = waitress.create_server(
            app,
            sockets=[listening],
            threads=threads,
            ident=None,
            connection_limit=CONNECTIONS,
            asyncore_use_poll=True,
            clear_untrusted_proxy_headers=False,
            # Larger bodies are answered 413 by the application, which reads them first: closing on a client that is
            # still sending would reset it. Only what is far too large is cut off here.
            max_request_body_size=8 * body_bytes,
            inbuf_overflow=body_bytes + 1,
            outbuf_overflow=64 * 2**20,
        )
        assert isinstance(server, BaseWSGIServer)
        server.channel_class = _Channel
        server.add_task = self._add_task
        self._server, self._queue = server, queue
        self._doorman = _Doorman()
        self._ends = False

    def turned_away(self) -> bool:
        """Tell, in the thread that answers a request, whether it found too many waiting: it is not to be worked on."""
        return threading.get_ident() == self._doorman.thread

    def _add_task(self, channel: HTTPChannel) -> None:
        workers = self._server.task_dispatcher
        idle = len(workers.threads) - workers.active_count
        aside = getattr(channel.requests[0], "command", "") == "GET" or len(workers.queue) - idle >= self._queue
        (self._doorman if aside else workers).add_task(channel)

    def end(self, *_: object) -> None:
        """Stop accepting; `run` returns once what is in flight is answered. Safe in a signal handler."""
        self._ends = True
        self._server.pull_trigger()

    def run(self, longest_end_s: float) -> None:
        """Serve until `end`, then finish what was begun, for at most `longest_end_s`."""
        while not self._ends:
            self._turn(30.0)
        self._stop_accepting()
        ends_at = time.monotonic() + longest_end_s
        idle_before = time.time()
        while self._server.active_channels and time.monotonic() < ends_at:
            for channel in list(self._server.active_channels.values()):
                quiet_s = time.time() - max(channel.last_activity, idle_before)
                if not channel.requests and not channel.total_outbufs_len and quiet_s > IDLE_S:
                    channel.will_close = True
            self._turn(0.05)
        self._server.task_dispatcher.shutdown()
        self._doorman.shutdown()

    def _turn(self, seconds: float) -> None:
        wasyncore.loop(timeout=seconds, use_poll=True, map=self._server._map, count=1)

    def _stop_accepting(self) -> None:
        """Take what already waits to be accepted, then leave the socket.

        Where we are the last, closing it earlier would reset those; where siblings go on, they take the rest.
        """
        server = self._server
        server.ending = True
        server.accepting = False
        while True:
            try:
                connection, address = server.socket.accept()
            except OSError:  # BlockingIOError: nobody waits any more
                break
            server.channel_class(server, connection, server.fix_addr(address), server.adj, map=server._map)
        server.del_channel()
        server.socket.close()


def freeze(listening: socket.socket) -> None:
    """Let no further connection reach the queue of a listening socket, so that all can empty and close it.

    A filter that drops every packet: a client that is just connecting tries again in a second and is then refused.
    Where the system has no such filter, what connects in the microseconds before the socket is closed is reset.
    """
    drop_all = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))  # BPF: ret #0
    program = struct.pack("HL", 1, ctypes.addressof(drop_all))
    try:
        listening.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)
    except OSError:
        return


def listen(address: str, port: int) -> socket.socket:
    """Open the socket that all workers share; OSError where the address is taken or not ours."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((address, port))
        listening.listen(1024)
    except OSError:
        listening.close()
        raise
    return listening
