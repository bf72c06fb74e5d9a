"""What a caller sends, read into a Request; must not know what is done with it, nor how an error is told."""

from __future__ import annotations

import binascii
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_plus, unquote_to_bytes

import orjson

from outliers.errors import InvalidRequest

FORM = "application/x-www-form-urlencoded"
JSON = "application/json"
FIELDS = ("query", "data", "model", "metric", "k", "lead_in", "judge_from", "mode")
MODES = ("whole", "causal")
LEAST, MOST = 1e-6, 1e6  # of a number above 0
DEEPEST = 100  # levels of nesting; a real query has about ten, and what walks it must not run out of stack

_ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
# URL-safe to standard; a space was a '+' before an unescaped form turned it into one.
_TO_STANDARD = bytes.maketrans(b"-_ ", b"+/+")
_OTHER_FORMS = (b"-", b"_", b" ", b"\r", b"\n", b"\t")


@dataclass(frozen=True)
class Request:
    """One question, as it was asked; nothing in it has been looked up yet.

    query: Druid native query; data: the rows of a Druid answer. At least one is given.
    model: the name as sent, plain or base64 (only what serves models can tell which).
    judge_from: ISO time from which rows of `data` are judged and answered.
    ignored: names of fields that mean nothing here.
    """

    query: dict[str, Any] | None = None
    data: list[Any] | None = None
    model: str | None = None
    metric: str | None = None
    k: float | None = None
    lead_in: str | None = None
    judge_from: str | None = None
    mode: str | None = None
    ignored: tuple[str, ...] = ()


def read_body(body: bytes, mimetype: str) -> Request:
    """Read a request body; `mimetype` is one of FORM and JSON. InvalidRequest says which field is wrong and how."""
    return from_fields(_json_fields(body) if mimetype == JSON else _form_fields(body))


def read_payload(body: bytes, mimetype: str) -> Any:
    """Read the JSON of the field `payload`: text in a form, text or the value itself in JSON."""
    fields = _json_fields(body) if mimetype == JSON else _form_fields(body)
    value = fields.get("payload", fields if mimetype == JSON else None)
    if value is None:
        raise InvalidRequest("The field 'payload' is missing.")
    return _loads(value.encode("utf-8", "surrogatepass"), "'payload'") if isinstance(value, str) else value


def from_fields(fields: Mapping[str, Any]) -> Request:
    """Make a Request of named fields: in `query` and `data` text is base64, objects are taken as they are."""
    query = _document(fields.get("query"), "query", dict, "an object")
    data = _document(fields.get("data"), "data", list, "a list of rows")
    if query is None and data is None:
        if "queryType" in fields:
            raise InvalidRequest('The body is a bare Druid query: send it as {"query": …}.')
        raise InvalidRequest("There is neither a query nor data in the request: send 'query', 'data' or both.")
    mode = _text(fields.get("mode"), "mode")
    if mode is not None and mode not in MODES:
        raise InvalidRequest(f"'mode' must be one of {' and '.join(MODES)}.")
    judge_from = _text(fields.get("judge_from"), "judge_from")
    if judge_from is not None and data is None:
        raise InvalidRequest("'judge_from' goes with 'data'; with a query alone, its intervals say what is judged.")
    return Request(
        query=query,
        data=data,
        model=_text(fields.get("model"), "model"),
        metric=_text(fields.get("metric"), "metric"),
        k=_positive(fields.get("k"), "k"),
        lead_in=_text(fields.get("lead_in"), "lead_in"),
        judge_from=judge_from,
        mode=mode,
        ignored=tuple(name for name in fields if name not in FIELDS),
    )


def base64_bytes(text: str | bytes) -> bytes:
    """Decode base64: either alphabet, padded or not, with line breaks; InvalidRequest where it is none."""
    raw = text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text
    raw = raw.strip(b" \t\r\n")
    if any(char in raw for char in _OTHER_FORMS):
        raw = raw.translate(_TO_STANDARD, b"\r\n\t")
    raw = raw.rstrip(b"=")
    try:
        decoded = binascii.a2b_base64(raw + b"=" * (-len(raw) % 4))
    except binascii.Error:
        decoded = b""
    if len(decoded) == len(raw) * 3 // 4 and len(raw) % 4 != 1:  # it skips what is not of the alphabet
        return decoded
    if raw.translate(None, _ALPHABET):
        raise InvalidRequest("not base64: it holds characters that base64 does not have")
    raise InvalidRequest("not base64: its length is impossible, it was probably cut off")


def _form_fields(body: bytes) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for pair in body.split(b"&"):
        if not pair.strip():
            continue
        raw_name, _, value = pair.partition(b"=")
        name = unquote_plus(raw_name.decode("utf-8", "replace"))
        if name in fields:
            raise InvalidRequest(f"'{name}' is given twice.")
        # A '+' in base64 stays one here, whether it was escaped or not.
        fields[name] = unquote_to_bytes(value) if name in ("query", "data") else _form_text(value, name)
    return fields


def _form_text(value: bytes, name: str) -> str:
    try:
        return unquote_to_bytes(value.replace(b"+", b" ")).decode("utf-8")
    except UnicodeDecodeError as exc:
        raise InvalidRequest(f"'{name}' is not UTF-8 text.") from exc


def _json_fields(body: bytes) -> dict[str, Any]:
    fields = _loads(body, "The body")
    if not isinstance(fields, dict):
        raise InvalidRequest("The body must be a JSON object with the fields 'query', 'data', ….")
    return fields


def _document(value: Any, name: str, kind: type, what: str) -> Any:
    if value is None or value == "" or value == b"":
        return None
    if isinstance(value, (str, bytes)):
        try:
            raw = base64_bytes(value)
        except InvalidRequest as exc:
            raise InvalidRequest(f"'{name}' is {exc}.{_hint(value)}") from exc
        value = _loads(raw, f"'{name}'")
    if not isinstance(value, kind):
        raise InvalidRequest(f"'{name}' must be {what}, not {_kind(value)}.")
    if kind is dict and _too_deep(value):
        raise InvalidRequest(f"'{name}' is nested deeper than {DEEPEST} levels.")
    return value


def _hint(value: str | bytes) -> str:
    start = (value if isinstance(value, bytes) else value[:80].encode("utf-8", "replace")).lstrip()[:1]
    return " It looks like JSON as it stands: encode it, or send the whole body as JSON." if start in b"{[" else ""


def _loads(raw: bytes, what: str) -> Any:
    """Parse JSON; what Python's own writer adds to it (NaN, Infinity) is read too, as values that are no numbers.

    Python also reads half a character ("\\ud800") where orjson does not; no answer could name it.
    """
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError as exc:
        reason = f"{exc.msg} at position {exc.pos}" if getattr(exc, "msg", "") else "cut off or garbled"
    try:
        if b"NaN" in raw or b"Infinity" in raw:
            value = json.loads(raw, parse_int=lambda digits: int(digits) if len(digits) < 19 else float(digits))
            orjson.dumps(value)
            return value
    except (ValueError, TypeError, RecursionError):
        pass
    raise InvalidRequest(f"{what} is not JSON: {reason}.")


def _too_deep(document: Any) -> bool:
    level = [document]
    for _ in range(DEEPEST):
        level = [
            child
            for node in level
            for child in (node.values() if isinstance(node, dict) else node)
            if isinstance(child, (dict, list))
        ]
        if not level:
            return False
    return True


def _text(value: Any, name: str) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise InvalidRequest(f"'{name}' must be text, not {_kind(value)}.")
    return value.strip() or None


def _positive(value: Any, name: str) -> float | None:
    """Read a number above 0 whose square is one too, in float32."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not LEAST <= number <= MOST:
        raise InvalidRequest(f"'{name}' must be a number above 0 (from {LEAST:g} to {MOST:g}).")
    return number


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")
