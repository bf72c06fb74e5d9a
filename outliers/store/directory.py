"""Files in a local directory: temporary file, fsync, rename, and a lock so that of two writers one wins.

It must not know what the files are. The etag is the time of writing to the nanosecond, and the size.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Optional

from outliers.errors import Conflict, NotFound, StoreUnavailable
from outliers.store.base import ANYTHING, File

_STALE_S = 3600.0  # a temporary file this old was left by a process that died


class DirectoryFiles:
    conditional = True

    def __init__(self, root: str) -> None:
        self.root = Path(root)
        self._thread_lock = threading.Lock()  # flock is between processes

    def list(self, prefix: str) -> dict[str, File]:
        with _translated():
            try:
                with os.scandir(self.root / prefix) as entries:
                    found = {}
                    for entry in entries:
                        with contextlib.suppress(FileNotFoundError):  # removed while we look
                            if entry.is_file():
                                found[prefix + entry.name] = _file(entry.stat())
                    return found
            except (FileNotFoundError, NotADirectoryError):
                return {}

    def exists(self) -> bool:
        try:
            return any(self.root.iterdir())
        except OSError:
            return False

    def stat(self, path: str) -> File:
        with _translated():
            return _file(os.stat(self.root / path))

    def read(self, path: str) -> tuple[bytes, File]:
        with _translated(), open(self.root / path, "rb") as stream:
            return stream.read(), _file(os.fstat(stream.fileno()))

    def write(
        self, path: str, data: bytes, metadata: Mapping[str, str], expected: Optional[str], twin: str = ""
    ) -> File:
        with _translated():
            target = self.root / path
            target.parent.mkdir(parents=True, exist_ok=True)
            written_ns = os.stat(self.root / twin).st_mtime_ns if twin else time.time_ns()
            temporary = self._temporary(data, written_ns)
            try:
                with self._lock():
                    if expected != ANYTHING and _etag_of(target) != expected:
                        raise Conflict("another file is there")
                    os.replace(temporary, target)
                _sync_directory(target.parent)
            finally:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(temporary)
            return _file(os.stat(target))

    def remove(self, paths: Iterable[str]) -> None:
        with _translated():
            parents = set()
            for path in paths:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self.root / path)
                    parents.add((self.root / path).parent)
            for parent in parents:
                if parent.parent.name == "models":
                    with contextlib.suppress(OSError):  # other versions are left
                        parent.rmdir()

    def _temporary(self, data: bytes, written_ns: int) -> str:
        directory = self.root / "tmp"
        directory.mkdir(parents=True, exist_ok=True)
        for stale in directory.iterdir():
            with contextlib.suppress(FileNotFoundError):
                if time.time() - stale.stat().st_ctime > _STALE_S:
                    stale.unlink()
        handle, name = tempfile.mkstemp(dir=directory)
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(data)
                stream.flush()
                os.fchmod(stream.fileno(), 0o644)
                os.utime(stream.fileno(), ns=(written_ns, written_ns))
                os.fsync(stream.fileno())
        except OSError:
            os.unlink(name)
            raise
        return name

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        with self._thread_lock, open(self.root / ".lock", "ab") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            yield


def _file(status: os.stat_result) -> File:
    # a copy of a version has its mtime, so that both have one etag; ctime is when it was put here
    return File(f"{status.st_mtime_ns:x}-{status.st_size:x}", status.st_size, status.st_ctime)


def _etag_of(path: Path) -> str | None:
    try:
        return _file(os.stat(path)).etag
    except FileNotFoundError:
        return None


def _sync_directory(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """Turn the operating system's errors into the store's."""
    try:
        yield
    except FileNotFoundError as error:
        raise NotFound("there is no such file in the store") from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StoreUnavailable("the disk of the store is full") from error
        raise StoreUnavailable(
            f"the store's directory cannot be used: {error.strerror or type(error).__name__}"
        ) from error
