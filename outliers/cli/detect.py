"""Judge one query or data file and print, save or plot the answer; no server is needed.

Reads: the query or data, Druid where only a query is given, the store's models.
Writes: the answer to standard output, and a picture where --plot names one.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from outliers.config import Config
from outliers.errors import InvalidRequest
from outliers.settings import read_lead_in

if TYPE_CHECKING:
    from outliers.web.calculate import Context
    from outliers.web.payload import Request


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_question(parser)
    parser.add_argument("--mode", choices=("whole", "causal"), help="judge by what lies around a point, or only before")
    parser.add_argument("--format", choices=("table", "json", "csv"), default="table", help="what is printed")
    parser.add_argument("--plot", metavar="FILE", help="write a picture (.png or .svg; needs matplotlib)")


def add_question(parser: argparse.ArgumentParser) -> None:
    """Add the options by which `detect` and `backtest` ask alike."""
    parser.add_argument("--query", metavar="FILE", help="a Druid timeseries query: a JSON file, - = stdin, or base64")
    parser.add_argument("--data", metavar="FILE", help="a Druid timeseries answer (JSON; - = stdin): no Druid is asked")
    parser.add_argument("--judge-from", metavar="TIME", help="with --data: ISO time from which points are judged")
    parser.add_argument("--model", metavar="NAME", help="the model to ask: a name, or a model file (.onnx)")
    parser.add_argument("--metric", help="which metric the answer is about; any = whichever is furthest out")
    parser.add_argument("--k", help="where the line lies, in the model's own sigmas")
    parser.add_argument("--lead-in", metavar="PERIOD", help="context before the interval: none or an ISO period")


def run(args: argparse.Namespace, config: Config) -> int:
    from outliers.cli import table
    from outliers.web.answer import as_json
    from outliers.web.calculate import calculate

    request = question(args, args.mode)
    with opened(args.model, config) as context:
        answer = calculate(request, context)
    shown = table.in_time(answer)
    if args.plot:
        from outliers.cli.plot import plot_answer

        plot_answer(shown, args.plot, title=table.title(shown))
    if args.format == "json":
        sys.stdout.buffer.write(as_json(answer) + b"\n")
    elif args.format == "csv":
        table.print_csv(answer)
    else:
        table.print_table(shown)
    return 0


def question(args: argparse.Namespace, mode: str | None) -> Request:
    """Return what the options of `add_question` ask. Raises InvalidRequest that says what is wrong with them."""
    from outliers.web.payload import from_fields

    if not args.query and not args.data:
        raise InvalidRequest("there is nothing to judge: name a file with --query, --data or both")
    lead_in = args.lead_in
    try:
        lead_in = lead_in and read_lead_in(lead_in)
    except ValueError as exc:
        raise InvalidRequest(f"--lead-in {lead_in} must be {exc}") from exc
    return from_fields({
        "query": read_document(args.query, "--query"), "data": read_document(args.data, "--data"),
        "model": name_of_model(args.model), "metric": args.metric, "k": args.k, "lead_in": lead_in,
        "judge_from": args.judge_from, "mode": mode,
    })  # fmt: skip


def read_document(source: str | None, option: str) -> Any:
    """Return the JSON value that an option names: a file, - = standard input, or (--query alone) JSON or base64 itself.

    Raises InvalidRequest where there is none.
    """
    import orjson

    from outliers.web.payload import base64_bytes

    if not source:
        return None
    is_file = source == "-" or os.path.exists(source)
    if not is_file and option != "--query":
        raise InvalidRequest(f"{option}: there is no file {source}")
    text = read_text(source, option) if is_file else source
    try:
        if text[0] in "{[" or option != "--query":
            return orjson.loads(text)
        return orjson.loads(base64_bytes(text))
    except (orjson.JSONDecodeError, InvalidRequest) as exc:
        if is_file:
            other = " and is not base64" if option == "--query" else ""
            raise InvalidRequest(f"{option} {source} is not JSON{other} ({exc})") from exc
        raise InvalidRequest(f"there is no file {source:.80}, and it is not a query in base64 ({exc})") from exc


def read_text(path: str, option: str) -> str:
    """Return a file's text (- = standard input), without the space around it; InvalidRequest where it has none."""
    with reading(f"{option} {path}"):
        raw = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
        text = raw.decode("utf-8-sig").strip()
    if not text:
        raise InvalidRequest(f"{option} {path} is empty")
    return text


@contextlib.contextmanager
def reading(what: str) -> Iterator[None]:
    """Raise InvalidRequest where a text file, told as `what`, cannot be read."""
    try:
        yield
    except OSError as exc:
        raise InvalidRequest(f"{what} cannot be read: {exc.strerror}") from exc
    except UnicodeDecodeError as exc:
        raise InvalidRequest(f"{what} is not UTF-8 text") from exc


def is_model_file(model: str | None) -> bool:
    return model is not None and model.endswith(".onnx") and os.path.isfile(model)


def name_of_model(model: str | None) -> str | None:
    """Return the name by which to ask for what --model names: a model, or a model file."""
    from outliers.infer.cache import read_meta

    return read_meta(model).name if model and is_model_file(model) else model


@contextlib.contextmanager
def opened(model: str | None, config: Config) -> Iterator[Context]:
    """Open what answering needs, with the models that the store serves or the one in a model file."""
    from outliers.infer.cache import Models, read_meta
    from outliers.store.names import key_of
    from outliers.web.calculate import open_context

    with contextlib.ExitStack() as stack:
        if model and is_model_file(model):
            directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="rb-aioutliers-"))
            shutil.copyfile(model, Path(directory) / f"{key_of(read_meta(model).name)}.onnx")
        else:
            directory = stack.enter_context(served_models(config))
        models = Models(directory, config.limits.models_mb)
        models.refresh()
        yield open_context(config, models)


@contextlib.contextmanager
def served_models(config: Config) -> Iterator[str]:
    """Give a directory of what the store serves: its own, this node's mirror where a service keeps it, or a copy.

    The mirror is only read: the service could not replace what another user wrote there.
    """
    from outliers.infer.cache import read_meta
    from outliers.store import Mirror, last_report, open_store

    mirror = config.store.mirror
    if config.store.kind == "directory":
        yield str(Path(config.store.directory) / "latest")
        return
    last = last_report(mirror)
    if last is not None and time.time() - last.finished_at <= 2 * config.store.refresh_s:
        yield mirror
        return
    with tempfile.TemporaryDirectory(prefix="rb-aioutliers-") as copy:
        report = Mirror(open_store(config), copy, config.limits.model_mb, check=read_meta).refresh()
        for reason in (*report.failed.values(), *([f"{report.error}; models may be stale"] if report.error else ())):
            logging.getLogger(__name__).warning("%s", reason)
        yield mirror if report.error else copy
