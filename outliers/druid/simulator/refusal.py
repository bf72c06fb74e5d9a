"""How a Druid 33 says no: status, error class and body of each refusal; knows nothing of tables or HTTP.

Classes and bodies as recorded from a real Druid (shared/data/druid_real/cases.jsonl.gz).
"""

from __future__ import annotations

from typing import Any, Optional

_JACKSON = "com.fasterxml.jackson.databind"


class Refusal(Exception):
    """An answer that is not 200; `body` is its JSON."""

    def __init__(self, status: int, body: dict[str, Any]) -> None:
        super().__init__(body.get("errorMessage"))
        self.status = status
        self.body = body


def _unhandled(error_class: str) -> Refusal:
    return Refusal(
        500,
        {
            "error": "Unknown exception",
            "errorMessage": "Unhandled exception made it to the top",
            "errorClass": error_class,
            "host": "127.0.0.1",
        },
    )


def bad_value() -> Refusal:
    """A field that is missing or that its class does not accept."""
    return _unhandled(f"{_JACKSON}.exc.ValueInstantiationException")


def nothing_at_all() -> Refusal:
    """The JSON `null`."""
    return _unhandled("java.lang.NullPointerException")


def unknown_type() -> Refusal:
    """A `type` or `queryType` that names no class, or a text where an object with one belongs."""
    return _unhandled(f"{_JACKSON}.exc.InvalidTypeIdException")


def wrong_shape() -> Refusal:
    """JSON of another kind than an object."""
    return _unhandled(f"{_JACKSON}.exc.MismatchedInputException")


def bad_format() -> Refusal:
    """A text where a number belongs."""
    return _unhandled(f"{_JACKSON}.exc.InvalidFormatException")


def bad_period() -> Refusal:
    """A period that is none."""
    return _unhandled(f"{_JACKSON}.JsonMappingException")


def not_json(message: str) -> Refusal:
    """A body that is no JSON."""
    return Refusal(
        400,
        {
            "error": "Json parse failed",
            "errorMessage": message,
            "errorClass": "com.fasterxml.jackson.core.JsonParseException",
            "host": None,
        },
    )


def _legacy(status: int, error: str, error_class: str, category: str, message: str, host: Optional[str]) -> Refusal:
    return Refusal(
        status,
        {
            "error": error,
            "errorClass": error_class,
            "host": host,
            "errorCode": "legacyQueryException",
            "persona": "OPERATOR",
            "category": category,
            "errorMessage": message,
            "context": {"host": host, "errorClass": error_class, "legacyErrorCode": error},
        },
    )


def bad_context(message: str) -> Refusal:
    """A value in the query's context that cannot be used."""
    kind = "org.apache.druid.query.BadQueryContextException"
    return _legacy(400, "Query context parse failed", kind, "INVALID_INPUT", message, None)


def failed(error_class: str, message: str) -> Refusal:
    """What a query runs into once there are rows."""
    return _legacy(500, "Unknown exception", error_class, "RUNTIME_FAILURE", message, None)


def timed_out(query_id: str) -> Refusal:
    """The query took longer than its `timeout`."""
    kind = "org.apache.druid.query.QueryTimeoutException"
    return _legacy(504, "Query timeout", kind, "TIMEOUT", f"Query [{query_id}] timed out!", "127.0.0.1:8083")


def too_much(message: str) -> Refusal:
    """The query needs more than a node has."""
    return (
        _unhandled("java.lang.OutOfMemoryError")
        if not message
        else _legacy(
            400,
            "Resource limit exceeded",
            "org.apache.druid.query.ResourceLimitExceededException",
            "CAPACITY_EXCEEDED",
            message,
            "127.0.0.1:8083",
        )
    )


def unsupported(message: str) -> Refusal:
    """Something that this simulator does not know, though a Druid might."""
    return _legacy(
        501, "Unsupported operation", "org.apache.druid.query.QueryUnsupportedException", "UNSUPPORTED", message, None
    )
