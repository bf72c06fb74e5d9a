"""How this program logs: one line `key=value …` a record, with what it was about; it must not know who logs what.

`set_up(config.log, …)` once per process, then `logging.getLogger(__name__)` as everywhere. What a line is about is
said with `about(request=…, sensor=…, model=…)` around the work, or `extra={"ms": 12.3}` on one record.
Secrets given to `set_up` are blotted out wherever they turn up, tracebacks included.
"""

from __future__ import annotations

import contextlib
import contextvars
import logging
import logging.handlers
import os
import re
import sys
import time
import types
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import quote

FIELDS = ("request", "job", "sensor", "model", "ms")  # in this order, after time and level
_LIBRARIES = ("botocore", "boto3", "urllib3", "waitress.queue", "rq", "matplotlib")

_NOTHING: Mapping[str, Any] = types.MappingProxyType({})
_about: contextvars.ContextVar[Mapping[str, Any]] = contextvars.ContextVar("outliers_log_about", default=_NOTHING)


@contextlib.contextmanager
def about(**fields: Any) -> Iterator[None]:
    """Add fields (see FIELDS) to every record of this thread or task until the block ends."""
    token = _about.set({**_about.get(), **fields})
    try:
        yield
    finally:
        _about.reset(token)


def set_up(file: str = "", *, secrets: Iterable[str] = (), debug: bool = False) -> None:
    """Send this process's log to `file`, or to standard error where it is "" or cannot be written.

    The file is opened again when logrotate has moved it. Calling it again replaces what the last call set up.
    """
    handler, trouble = _handler(file)
    handler.setFormatter(Formatter(secrets))
    root = logging.getLogger()
    for old in [h for h in root.handlers if isinstance(h.formatter, Formatter)]:
        root.removeHandler(old)
        old.close()
    root.addHandler(handler)
    root.setLevel(logging.DEBUG if debug else logging.INFO)
    for name in _LIBRARIES:  # what they say on success is noise
        logging.getLogger(name).setLevel(logging.INFO if debug else logging.WARNING)
    logging.captureWarnings(True)
    if trouble:
        logging.getLogger(__name__).warning("%s; logging to standard error", trouble)


def _handler(file: str) -> tuple[logging.Handler, str]:
    if not file:
        return logging.StreamHandler(sys.stderr), ""
    try:
        os.makedirs(os.path.dirname(os.path.abspath(file)), exist_ok=True)
        return SafeFileHandler(file, encoding="utf-8", errors="backslashreplace"), ""
    except OSError as error:
        return logging.StreamHandler(sys.stderr), f"the log file {file} cannot be written: {error.strerror}"


class SafeFileHandler(logging.handlers.WatchedFileHandler):
    """A file that logrotate may move, and that may become unwritable: then the record goes to standard error."""

    def handleError(self, record: logging.LogRecord) -> None:
        kind, error, _ = sys.exc_info()
        if kind is None or not issubclass(kind, OSError):
            super().handleError(record)
            return
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.write(f"{self.format(record)} log_error={_value(str(error))}\n")

    def close(self) -> None:
        with contextlib.suppress(OSError):  # what could not be written was told when it was logged
            super().close()


class Formatter(logging.Formatter):
    """Format a record as `2026-11-24T20:05:01.123Z level=info … logger=… msg="…"`, always one line."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        super().__init__()
        spellings = {
            spelt for s in secrets if len(s) >= 4 for spelt in (s, _value(s, always=True)[1:-1], quote(s, safe=""))
        }
        longest_first = sorted(spellings, key=len, reverse=True)
        self._secret = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None

    def format(self, record: logging.LogRecord) -> str:
        whole_s = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        parts = [f"{whole_s}.{int(record.msecs):03d}Z", f"level={record.levelname.lower()}", f"pid={record.process}"]
        known = _about.get()
        for name in FIELDS:
            value = getattr(record, name, known.get(name))
            if value is not None and value != "":
                parts.append(f"{name}={value:.1f}" if isinstance(value, float) else f"{name}={_value(str(value))}")
        parts.append(f"logger={record.name}")
        parts.append(f"msg={_value(record.getMessage(), always=True)}")
        if record.exc_info:
            parts.append(f"traceback={_value(self.formatException(record.exc_info))}")
        line = " ".join(parts)
        return self._secret.sub("***", line) if self._secret else line


def _value(text: str, *, always: bool = False) -> str:
    """Quote `text` where it needs it, so that a line stays one line and splits at spaces."""
    if not always and re.fullmatch(r"[^\s\"=\\\x00-\x1f\x7f]+", text):
        return text
    text = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\r", "\\r")
    return '"' + re.sub(r"[\x00-\x1f\x7f]", lambda c: f"\\x{ord(c[0]):02x}", text) + '"'
