"""A server that does less and less of the work, for the benchmarks to compare with: `python -m benchmarks.floors PORT`.

The same waitress and Flask, the same routes' handling. /noop answers fixed bytes; /parse reads the question, puts its
rows on their grid and writes an answer, without judging.
"""

from __future__ import annotations

import signal
import sys

import numpy as np
import orjson
from flask import Flask, Response, request

from outliers.druid.response import parse_rows
from outliers.web.answer import Answer, ModelUsed, Rows, as_json
from outliers.web.payload import read_body
from outliers.web.serving import Server, listen

BODY_BYTES = 64 * 2**20


def floors() -> Flask:
    app = Flask("floors", static_folder=None)
    answers: dict[int, bytes] = {}

    @app.post("/keep/<int:points>")
    def keep(points: int) -> Response:
        """Take the bytes that /noop is to answer."""
        answers[points] = request.get_data(cache=False)
        return Response(orjson.dumps({"kept": len(answers[points])}), content_type="application/json")

    @app.post("/noop/<int:points>")
    def noop(points: int) -> Response:
        request.get_data(cache=False)
        return Response(answers[points], content_type="application/json")

    @app.post("/parse")
    def parse() -> Response:
        question = read_body(request.get_data(cache=False), request.mimetype)
        return Response(as_json(unjudged(question.data or [])), content_type="application/json")

    return app


def unjudged(data: list) -> Answer:
    """Put rows on their grid and say something of each, without judging."""
    parsed = parse_rows(data)
    at = parsed.row_position
    column = parsed.series.values[at, 0]
    marks = np.zeros(len(at), bool)
    rows = Rows(
        list(parsed.timestamps), column, column, column, column, column,
        marks, marks, np.zeros(len(at), np.int8), marks, marks,
    )  # fmt: skip
    used = ModelUsed(None, None, "baseline", 1.0)
    return Answer(rows, parsed.series.metrics[0], "whole", parsed.series.granularity, used)


def main() -> None:
    server = Server(floors(), listen("127.0.0.1", int(sys.argv[1])), 4, BODY_BYTES)
    signal.signal(signal.SIGTERM, server.end)
    server.run(5.0)


if __name__ == "__main__":
    main()
