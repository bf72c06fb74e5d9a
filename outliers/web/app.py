"""The HTTP routes: what is asked where, and how an answer or an error is told; must not know how an answer is found.

`create_app` builds everything from what it is given: no file, socket or thread at import.
"""

from __future__ import annotations

import hmac
import logging
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from flask import Flask, Response, current_app, g, request
from werkzeug.exceptions import HTTPException, UnsupportedMediaType

from outliers import log
from outliers.config import Config
from outliers.errors import (
    DruidError,
    InvalidRequest,
    OutliersError,
    Overloaded,
    Unservable,
)
from outliers.web import ips, payload
from outliers.web.answer import Answer, as_json
from outliers.web.metrics import CONTENT_TYPE, Metrics
from outliers.web.openapi import document

JSON = "application/json"
RETRY_AFTER_S = 2
# All that the page needs is in it or comes from here.
PAGE_POLICY = "default-src 'self'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; frame-ancestors 'none'"
OPEN_ROUTES = frozenset({"health", "ready", "metrics", "openapi", "page"})
OLD_DIALECT = "/api/v1/outliers"
OLD_STATUS = {400: 200, 422: 200, 500: 200}  # it tells all other errors by their code
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Parts:
    """What the routes need: each is a function, so that none knows what stands behind it.

    calculate(request, named_model_must_exist, deadline_s) answers one question. models() lists what is served.
    missing() says what is not ready, "" = ready. turned_away() tells whether this request found too many waiting.
    """

    calculate: Callable[[payload.Request, bool, float], Answer]
    models: Callable[[], list[dict[str, Any]]]
    missing: Callable[[], str]
    turned_away: Callable[[], bool]
    metrics: Metrics


def create_app(config: Config, parts: Parts) -> Flask:
    """Build the WSGI application."""
    app = Flask("outliers", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = config.limits.body_kb * 1024
    app.before_request(partial(_begin, config, parts))
    app.after_request(partial(_end, parts))
    app.register_error_handler(OutliersError, partial(_own_error, parts))
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(Exception, partial(_unexpected, parts))
    _add_routes(app, config, parts)
    return app


def _add_routes(app: Flask, config: Config, parts: Parts) -> None:
    def calculate() -> Response:
        return _calculate(config, parts, must_exist=True, list_name="prediction")

    def outliers() -> Response:
        return _calculate(config, parts, must_exist=False, list_name="predicted")

    def ip_identifier() -> Response:
        most = config.limits.points * config.limits.metrics
        return _json(ips.identify(payload.read_payload(request.get_data(cache=False), _mimetype()), most))

    def page() -> Response:
        text = Path(__file__).with_name("static").joinpath("page.html").read_bytes()
        return Response(text, content_type="text/html; charset=utf-8", headers={"Content-Security-Policy": PAGE_POLICY})

    def health() -> Response:
        return _json({"status": "ok"})

    def ready() -> Response:
        missing = parts.missing()
        return _json({"status": "not ready", "missing": missing}, 503) if missing else _json({"status": "ready"})

    def metrics() -> Response:
        return Response(parts.metrics.text(), content_type=CONTENT_TYPE)

    def models() -> Response:
        return _json({"models": parts.models()})

    def openapi() -> Response:
        return _json(document(with_token=bool(config.server.token)))

    app.add_url_rule("/calculate", view_func=calculate, methods=["POST"])
    app.add_url_rule(OLD_DIALECT, view_func=outliers, methods=["POST"])
    app.add_url_rule(ips.ROUTE, view_func=ip_identifier, methods=["POST"])
    app.add_url_rule("/", view_func=page)
    app.add_url_rule("/health", view_func=health)
    app.add_url_rule("/ready", view_func=ready)
    app.add_url_rule("/metrics", view_func=metrics)
    app.add_url_rule("/api/v1/models", view_func=models)
    app.add_url_rule("/openapi.json", view_func=openapi)


def _calculate(config: Config, parts: Parts, must_exist: bool, list_name: str) -> Response:
    question = payload.read_body(request.get_data(cache=False), _mimetype())
    answer = parts.calculate(question, must_exist, g.started_s + config.server.request_timeout_s)
    body, model = as_json(answer, list_name), answer.model
    _log.info(
        "%s 200: %.100s, %d points, %d anomalies",
        request.path,
        answer.metric,
        len(answer.rows),
        np.count_nonzero(answer.rows.flag),
        extra={"model": f"{model.name}/{model.version}" if model.name else model.kind, "ms": _ms()},
    )
    return Response(body, content_type=JSON)


def _mimetype() -> str:
    """Return the body's type; an empty body needs none. Raises UnsupportedMediaType for any other than the two."""
    mimetype = request.mimetype or (payload.FORM if not request.content_length else "")
    if mimetype not in (payload.FORM, payload.JSON):
        raise UnsupportedMediaType(f"The body must be {payload.FORM} or {payload.JSON}.")
    return mimetype


def _begin(config: Config, parts: Parts) -> Response | None:
    g.started_s = time.monotonic()
    parts.metrics.in_flight.inc()
    g.counted = True
    g.about = log.about(request=request.headers.get("X-Request-Id", "")[:64] or secrets.token_hex(4))
    g.about.__enter__()
    if request.method == "POST" and parts.turned_away():
        parts.metrics.shed.inc()
        raise Overloaded("too many requests are waiting; try again in a moment")
    if config.server.token and request.endpoint not in OPEN_ROUTES and request.url_rule is not None:
        sent = request.headers.get("Authorization", "")
        scheme, _, token = sent.partition(" ")
        right = hmac.compare_digest(token.strip().encode(), config.server.token.encode())
        if scheme.lower() != "bearer" or not right:
            refused = _refused(401, "A valid token is needed: send the header 'Authorization: Bearer <token>'.")
            refused.headers["WWW-Authenticate"] = "Bearer"
            return refused
    return None


def _end(parts: Parts, response: Response) -> Response:
    if g.pop("counted", False):
        route = request.url_rule.rule if request.url_rule is not None else "other"
        seconds = time.monotonic() - g.started_s
        parts.metrics.in_flight.dec()
        parts.metrics.requests.labels(route, str(response.status_code)).inc()
        parts.metrics.request_seconds.labels(route).observe(seconds)
        g.about.__exit__(None, None, None)
    return response


def _own_error(parts: Parts, error: OutliersError) -> Response:
    """Tell an error of this project: its sentence holds no internals. Codes per class; the old dialect has its own."""
    parts.metrics.errors.labels(type(error).__name__).inc()
    if isinstance(error, Overloaded):
        response = _refused(503, str(error), logging.WARNING)
        response.headers["Retry-After"] = str(RETRY_AFTER_S)
        return response
    if isinstance(error, InvalidRequest):
        return _refused(400, str(error))
    if isinstance(error, Unservable):
        return _refused(422, str(error))
    if isinstance(error, DruidError):
        return _refused(500, str(error), logging.WARNING)
    return _refused(500, str(error), logging.ERROR, error)


def _http_error(error: HTTPException) -> Response:
    texts = {
        404: "There is no such route here; GET /openapi.json lists them.",
        405: f"{request.method} is not allowed here.",
        413: f"The body is larger than the {current_app.config['MAX_CONTENT_LENGTH'] // 1024} KB allowed here.",
    }
    status = error.code or 500
    response = _refused(status, texts.get(status, error.description or error.name))
    for name, value in error.get_headers():
        if name.lower() in ("allow", "location"):
            response.headers[name] = value
    return response


def _unexpected(parts: Parts, error: Exception) -> Response:
    """A mistake of ours: the traceback goes to the log, here and only here."""
    parts.metrics.errors.labels(type(error).__name__).inc()
    _log.error("unexpected: %s", error, exc_info=error)
    return _error(500, "Something failed here while answering; the log of this service has the details.")


def _refused(status: int, text: str, level: int = logging.INFO, error: Exception | None = None) -> Response:
    """Tell an error to the caller and to the log."""
    said = (request.path[:100], status, text[:500])
    _log.log(level, "%s %d: %s", *said, exc_info=error, extra={"ms": _ms()})
    return _error(status, text)


def _ms() -> float:
    return (time.monotonic() - g.started_s) * 1000


def _error(status: int, text: str) -> Response:
    """Tell an error as a sentence; where it was raised nobody knew that it would begin one."""
    sentence = f"{text[:1].upper()}{text[1:].rstrip('.')}."
    if request.path == ips.ROUTE:  # as the deployed service does there
        return _json({"error": sentence}, status)
    if request.path == OLD_DIALECT:
        status = OLD_STATUS.get(status, status)
    return _json({"status": "error", "msg": sentence}, status)


def _json(value: object, status: int = 200) -> Response:
    return Response(orjson.dumps(value), status=status, content_type=JSON)
