"""All servers of one run together: those that the environment names, and ours for the rest.

It must not know what the tests ask of them, nor what data they hold.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from tests.real.servers.consul import Consul
from tests.real.servers.druid import Druid
from tests.real.servers.minio import REGION, Minio
from tests.real.servers.obtain import (
    ToolMissing,
    cache_folder,
    consul_program,
    druid_jars,
    minio_program,
    redis_program,
)
from tests.real.servers.redis_server import RedisServer

# Where a server is that is not ours to start. S3: http://KEY:SECRET@HOST:PORT, Redis: redis://:SECRET@HOST:PORT.
VARIABLES = {
    "druid": "OUTLIERS_TEST_DRUID_URL",
    "s3": "OUTLIERS_TEST_S3_URL",
    "consul": "OUTLIERS_TEST_CONSUL_URL",
    "redis": "OUTLIERS_TEST_REDIS_URL",
}
COORDINATOR_VARIABLE = "OUTLIERS_TEST_DRUID_COORDINATOR_URL"  # where traffic is loaded; none = the Druid URL


class Server(Protocol):
    user: str
    secret: str

    @property
    def url(self) -> str: ...
    def start(self) -> None: ...
    def close(self) -> None: ...


@dataclass(frozen=True)
class Place:
    """Where a server answers. `server` is None if it is not ours; `missing` says why there is none at all."""

    url: str = ""
    user: str = ""
    secret: str = ""
    server: Server | None = None
    missing: str = ""

    @property
    def host(self) -> str:
        return urlsplit(self.url).hostname or ""

    @property
    def port(self) -> int:
        return urlsplit(self.url).port or 0

    @property
    def full_url(self) -> str:
        """The URL with user and secret in it, as `place_of` reads it."""
        scheme, _, rest = self.url.partition("://")
        given = f"{quote(self.user, safe='')}:{quote(self.secret, safe='')}@" if self.secret else ""
        return f"{scheme}://{given}{rest}"


def place_of(url: str) -> Place:
    """Read a URL from the environment; user and secret are taken out of it."""
    parts = urlsplit(url)
    bare = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", "")).rstrip("/")
    return Place(bare, unquote(parts.username or ""), unquote(parts.password or ""))


# What obtains each (once), and what makes it of that and a folder; not started yet.
SERVERS: Mapping[str, tuple[Callable[[], Path], Callable[[Path, Path], Server]]] = {
    "druid": (druid_jars, Druid),
    "s3": (minio_program, Minio),
    "consul": (consul_program, Consul),
    "redis": (redis_program, RedisServer),
}


def obtain_all(environ: Mapping[str, str] = os.environ) -> list[str]:
    """Obtain every server that the environment does not name; say which cannot be had here, and why."""
    missing = []
    for kind, (obtain, _) in SERVERS.items():
        if not environ.get(VARIABLES[kind]):
            try:
                obtain()
            except ToolMissing as error:
                missing.append(f"no {kind}: {error}")
    return missing


class Fleet:
    """The servers, each started when it is first asked for; closing ends them and removes what they wrote."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self._environ = environ
        self._lock, self.folder = _run_folder()
        self._places: dict[str, Place] = {}

    def place(self, kind: str) -> Place:
        """Say where the server of a kind is; obtain and start ours where the environment names none."""
        if kind not in self._places:
            given = self._environ.get(VARIABLES[kind])
            try:
                self._places[kind] = place_of(given) if given else self._start(kind)
            except ToolMissing as error:
                self._places[kind] = Place(missing=str(error))
        return self._places[kind]

    def _start(self, kind: str) -> Place:
        obtain, make = SERVERS[kind]
        server = make(obtain(), self.folder / kind)
        try:
            server.start()
        except BaseException:
            server.close()
            raise
        return Place(server.url, server.user, server.secret, server)

    def __enter__(self) -> Fleet:
        return self

    def __exit__(self, *exception: object) -> None:
        for place in self._places.values():
            if place.server:
                place.server.close()
        shutil.rmtree(self.folder, ignore_errors=True)
        os.close(self._lock)

    def exports(self) -> list[str]:
        """Name the servers as the environment variables that let a test run use them."""
        lines = []
        for kind in VARIABLES:
            place = self.place(kind)
            if place.missing:
                continue
            lines.append(f"export {VARIABLES[kind]}='{place.full_url}'")
            if isinstance(place.server, Druid):
                lines.append(f"export {COORDINATOR_VARIABLE}='{place.server.coordinator_url}'")
        return lines


def _run_folder() -> tuple[int, Path]:
    """Make this run's folder, and remove those of runs that were killed: nobody holds their lock any more."""
    runs = cache_folder() / "runs"
    runs.mkdir(parents=True, exist_ok=True)
    for each in runs.iterdir():
        lock = os.open(each, os.O_RDONLY)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(each, ignore_errors=True)
        except BlockingIOError:
            pass  # a run that is under way
        finally:
            os.close(lock)
    folder = Path(tempfile.mkdtemp(dir=runs))
    lock = os.open(folder, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    return lock, folder


Sections = dict[str, dict[str, object]]


def sections_for(places: Mapping[str, Place], bucket: str) -> Sections:
    """Say in the configuration's words where these servers are; a kind that is missing is left out."""
    sections: Sections = {}
    for kind, at in places.items():
        if at.missing:
            continue
        if kind == "druid":
            sections["Druid"] = {"druid_endpoint": f"{at.url}/druid/v2/"}
        elif kind == "s3":
            keys = {"s3_public_key": at.user, "s3_private_key": at.secret}
            sections["AWS"] = {"s3_hostname": at.url, **keys, "s3_region": REGION, "s3_bucket": bucket}
        elif kind == "redis":
            sections["Redis"] = {"rd_hostname": at.host, "rd_port": at.port, "rd_secret": at.secret}
        else:
            sections["Consul"] = {"enabled": "true", "address": at.host, "port": at.port}
    return sections


def ini(sections: Mapping[str, Mapping[str, object]]) -> str:
    """Write sections and keys as an INI file."""
    blocks = (
        "\n".join([f"[{name}]", *(f"{key} = {value}" for key, value in keys.items())])
        for name, keys in sections.items()
    )
    return "\n\n".join(blocks) + "\n"
