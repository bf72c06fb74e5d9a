"""Judge one query or data file and print, save or plot the answer; no server is needed.

Reads: the query or data, Druid where only a query is given, the store's models.
Writes: the answer to standard output, and a picture where --plot names one; the mirror of an S3 store.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import logging
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from outliers.config import Config
from outliers.errors import InvalidRequest

if TYPE_CHECKING:
    from outliers.infer.cache import Models
    from outliers.web.answer import Answer

SHOWN = 40  # runs in a table; JSON and CSV have all


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_question(parser)
    parser.add_argument("--data", metavar="FILE", help="a Druid timeseries answer (JSON; - = stdin): no Druid is asked")
    parser.add_argument("--judge-from", metavar="TIME", help="with --data: ISO time from which points are judged")
    parser.add_argument("--mode", choices=("whole", "causal"), help="judge by what lies around a point, or only before")
    parser.add_argument("--format", choices=("table", "json", "csv"), default="table", help="what is printed")
    parser.add_argument("--plot", metavar="FILE", help="write a picture (.png or .svg; needs matplotlib)")


def add_question(parser: argparse.ArgumentParser) -> None:
    """Add the options by which `detect` and `backtest` ask alike."""
    parser.add_argument("--query", metavar="FILE", help="a Druid timeseries query: a JSON file, - = stdin, or base64")
    parser.add_argument("--model", metavar="NAME", help="the model to ask: a name, or a model file (.onnx)")
    parser.add_argument("--metric", help="which metric the answer is about; any = whichever is furthest out")
    parser.add_argument("--k", help="where the line lies, in the model's own sigmas")
    parser.add_argument("--lead-in", metavar="PERIOD", help="context before the interval: none or an ISO period")


def run(args: argparse.Namespace, config: Config) -> int:
    from outliers.web.answer import as_json

    fields = question(args)
    fields.update(data=read_text(args.data, "--data"), judge_from=args.judge_from, mode=args.mode)
    answer = ask(fields, config)
    if args.plot:
        from outliers.cli.plot import plot_answer

        plot_answer(answer, args.plot, title=title(answer))
    if args.format == "json":
        sys.stdout.buffer.write(as_json(answer) + b"\n")
    elif args.format == "csv":
        print_csv(answer)
    else:
        print_table(answer)
    return 0


def question(args: argparse.Namespace) -> dict[str, Any]:
    """The request's fields that `add_question` reads."""
    query = read_text(args.query, "--query") if args.query else None
    return {"query": query, "model": args.model, "metric": args.metric, "k": args.k, "lead_in": args.lead_in}


def read_text(source: str | None, option: str) -> Any:
    """The JSON value or base64 text that an option names: a file, - for standard input, or the text itself."""
    import orjson

    if source is None:
        return None
    if source == "-":
        text = sys.stdin.read()
    elif Path(source).is_file():
        text = Path(source).read_text(encoding="utf-8-sig")
    elif option == "--data" or source.endswith(".json"):
        raise InvalidRequest(f"{option} {source}: there is no such file")
    else:
        text = source
    if text.lstrip()[:1] not in ("{", "["):
        return text
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as exc:
        raise InvalidRequest(f"{option} is not JSON: {exc}") from exc


def ask(fields: dict[str, Any], config: Config) -> Answer:
    """Answer one request's fields as POST /calculate would, in this process."""
    from outliers.web.calculate import calculate, open_context
    from outliers.web.payload import from_fields

    with open_models(fields.get("model"), config) as (models, name):
        request = from_fields({**{key: value for key, value in fields.items() if value is not None}, "model": name})
        return calculate(request, open_context(config, models))


@contextlib.contextmanager
def open_models(model: str | None, config: Config) -> Iterator[tuple[Models, str | None]]:
    """Open the store's models, or the one in a model file; gives them and the name to ask for."""
    from outliers.infer.cache import Models, read_meta
    from outliers.store.names import key_of

    with contextlib.ExitStack() as stack:
        directory, name = "", model
        if model and model.endswith(".onnx") and Path(model).is_file():
            name = read_meta(model).name
            directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="rb-aioutliers-"))
            (Path(directory) / f"{key_of(name)}.onnx").write_bytes(Path(model).read_bytes())
        else:
            directory = local_models(config)
        models = Models(directory, config.limits.models_mb)
        models.refresh()
        yield models, name


def local_models(config: Config) -> str:
    """The directory of what the store serves: the store itself, or its mirror, refreshed where nobody else does so."""
    if config.store.kind == "directory":
        return str(Path(config.store.directory) / "latest")
    from outliers.store import Mirror, last_report, open_store

    report = last_report(config.store.mirror)
    if report is None or time.time() - report.finished_at > 2 * config.store.refresh_s:
        report = Mirror(open_store(config), config.store.mirror, config.limits.model_mb).refresh()
        if report.error:
            logging.getLogger(__name__).warning("%s; models may be stale", report.error)
    return config.store.mirror


def runs(answer: Answer) -> list[tuple[int, int]]:
    """First and last position of each run of flagged rows; a row that is not flagged ends a run."""
    import numpy as np

    edges = np.flatnonzero(np.diff(np.concatenate([[0], answer.rows.flag.astype(np.int8), [0]])))
    return [(int(start), int(end) - 1) for start, end in zip(edges[::2], edges[1::2])]


def title(answer: Answer) -> str:
    model = answer.model
    who = f"model {model.name} {model.version}" if model.kind == "autoencoder" else "no model"
    return f"{answer.metric}, {answer.granularity}, {who}: {len(runs(answer))} anomalous stretches"


def print_table(answer: Answer) -> None:
    rows, found = answer.rows, runs(answer)
    print(title(answer))
    for sentence in (*([answer.model.reason] if answer.model.reason else []), *answer.warnings):
        print(f"  {sentence}")
    if found:
        print(f"\n  {'from':<26} {'to':<26} {'points':>6} {'score':>7}  {'actual':>14} {'expected':>14}  metrics")
    for first, last in found[:SHOWN]:
        peak = first + int(rows.score[first : last + 1].argmax())
        print(
            f"  {rows.timestamps[first]:<26} {rows.timestamps[last]:<26} {last - first + 1:>6}"
            f" {rows.score[peak]:>7.2f}  {rows.actual[peak]:>14.6g} {rows.forecast[peak]:>14.6g}"
            f"  {', '.join(rows.metrics.get(peak, ()))}"
        )
    if len(found) > SHOWN:
        print(f"  … and {len(found) - SHOWN} more (--format json or csv has all)")
    print(f"\n{len(rows)} points, {int(rows.flag.sum())} of them anomalous")


def print_csv(answer: Answer) -> None:
    rows = answer.rows
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["timestamp", "actual", "forecast", "lower", "upper", "score", "anomaly"])
    columns = (rows.actual, rows.forecast, rows.lower, rows.upper, rows.score)
    for position, timestamp in enumerate(rows.timestamps):
        numbers = [float(column[position]) for column in columns]
        cells = ["" if number != number else repr(number) for number in numbers]
        writer.writerow([timestamp, *cells, int(rows.flag[position])])
