"""How names become keys and how versions are named; it must not know what is stored under them."""

from __future__ import annotations

import hashlib
import re
import secrets
import time
from datetime import datetime, timezone
from urllib.parse import unquote_to_bytes

from outliers.errors import InvalidRequest

LONGEST_KEY = 180
_PLAIN = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-")
_VERSION = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}")  # ours look like 20261124T200501123456Z-1a2b3c4d


class Key(str):
    """A name in its encoded form, as listings have it; taken as it is wherever a name is asked for."""

    __slots__ = ()


def key_of(name: str) -> Key:
    """Return `name` as one path segment: letters, digits, `_` and `-`, other bytes as %XX, cut and hashed if long."""
    if isinstance(name, Key):
        return name
    if not name:
        raise InvalidRequest("a model's name must have at least one character")
    raw = name.encode("utf-8", "surrogatepass")
    key = "".join(chr(byte) if byte in _PLAIN else f"%{byte:02X}" for byte in raw)
    if len(key) > LONGEST_KEY:
        key = f"{key[:140]}~{hashlib.sha256(raw).hexdigest()[:32]}"
    return Key(key)


def name_of(key: str) -> str:
    """Return the name that `key` stands for, or `key` itself where it was cut (the model file has the name)."""
    if "~" in key:
        return key
    return unquote_to_bytes(key).decode("utf-8", "replace")


def new_version() -> str:
    """Return the name of a version made now: UTC to the microsecond, so that names sort, and a random suffix."""
    now = datetime.fromtimestamp(time.time(), timezone.utc)
    return f"{now:%Y%m%dT%H%M%S%f}Z-{secrets.token_hex(4)}"


def checked_version(text: str) -> str:
    """Return `text` if it can be a version and so is no path; InvalidRequest otherwise."""
    if not _VERSION.fullmatch(text):
        raise InvalidRequest("that is not the name of a version")
    return text
