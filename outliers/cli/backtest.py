"""Replay a past interval causally: what would have been flagged while it happened, when, and at which line.

Reads: Druid over the query's interval, or data; the store's models; with --labels a CSV file of start,end[,kind] (ISO
times).
Writes: the replay to standard output, and a picture where --plot names one.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from outliers.cli import detect
from outliers.config import Config
from outliers.errors import InvalidRequest
from outliers.times import instant_text, parse_instant_ms

if TYPE_CHECKING:
    from outliers.infer.cache import Models
    from outliers.web.answer import Answer

LINES = (0.75, 1.0, 1.25, 1.5, 2.0)  # times the line in force
ONE_ALARM_S = 3600  # runs less than this apart are one alarm, as in [Detection] alarms_per_day
WEEK_S = 7 * 86400


class Label(NamedTuple):
    """A known anomaly: Unix seconds, the end not included."""

    start_s: float
    end_s: float
    kind: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    detect.add_question(parser)
    parser.add_argument("--labels", metavar="FILE", help="known anomalies: CSV with start,end[,kind]")
    parser.add_argument("--json", action="store_true", help="JSON instead of text")
    parser.add_argument("--plot", metavar="FILE", help="write a picture (.png or .svg; needs matplotlib)")


def run(args: argparse.Namespace, config: Config) -> int:
    from outliers.cli import table
    from outliers.web.calculate import calculate

    request = detect.question(args, "causal")
    labels = read_labels(args.labels) if args.labels else []
    with detect.opened(args.model, config) as context:

        def replay(k: float | None) -> Answer:
            return table.in_time(calculate(dataclasses.replace(request, k=k), context))

        answer = with_learned(replay(request.k), context.models)
        threshold = answer.model.threshold
        lines = [
            at_line(answer if part == 1.0 else replay(threshold * part), threshold * part)
            for part in LINES
            if threshold is not None
        ]
    report = {
        **at_line(answer, threshold),
        "lines": lines,
        "labels": found_labels(answer, labels),
        "warnings": answer.warnings,
    }
    if args.plot:
        from outliers.cli.plot import plot_answer

        spans = [(iso(label.start_s), iso(label.end_s), label.kind) for label in labels]
        plot_answer(answer, args.plot, title=table.title(answer) + ", as seen live", labels=spans)
    if args.json:
        print(json.dumps(report))
    else:
        print_report(answer, report)
    return 0


def with_learned(answer: Answer, models: Models) -> Answer:
    """Add a warning where the model was trained on what is replayed, as it could not have been at the time."""
    if answer.model.name is None or not len(answer.rows):
        return answer
    meta = models.get(answer.model.name).meta
    if meta.trained_to <= unix_s(answer.rows.timestamps[0]) or meta.trained_from > unix_s(answer.rows.timestamps[-1]):
        return answer
    learned = f"{iso(meta.trained_from)} to {iso(meta.trained_to)}"
    warning = f"The model has learned from this interval ({learned}): live, it would not have known it."
    return dataclasses.replace(answer, warnings=(*answer.warnings, warning))


def read_labels(path: str) -> list[Label]:
    """Read known anomalies, at least one; InvalidRequest says which line is wrong."""
    labels = []
    with detect.reading(path), open(path, encoding="utf-8-sig", newline="") as file:
        for number, row in enumerate(csv.reader(file), 1):
            if row and not (number == 1 and row[0].strip().lower() == "start"):
                labels.append(read_label(row, f"{path}, line {number}"))
    if not labels:
        raise InvalidRequest(f"{path} holds no label: expected lines of start,end[,kind]")
    return labels


def read_label(row: Sequence[str], where: str) -> Label:
    """Read start,end[,kind]; InvalidRequest says `where`."""
    try:
        start_s, end_s = unix_s(row[0]), unix_s(row[1])
    except (ValueError, IndexError) as exc:
        raise InvalidRequest(f"{where}: expected start,end[,kind] as ISO times") from exc
    if end_s <= start_s:
        raise InvalidRequest(f"{where}: the end is not after the start")
    return Label(start_s, end_s, row[2].strip() if len(row) > 2 else "")


def unix_s(text: str) -> float:
    """Unix seconds of an ISO time; one without an offset is UTC."""
    return parse_instant_ms(text.strip()) / 1000


def iso(at_s: float) -> str:
    return instant_text(int(at_s * 1000))


def alarms(answer: Answer) -> list[tuple[int, int]]:
    """First and last position of each alarm: flagged rows less than an hour apart."""
    from outliers.cli import table

    joined: list[tuple[int, int]] = []
    times = [unix_s(text) for text in answer.rows.timestamps]
    for first, last in table.runs(answer):
        if joined and times[first] - times[joined[-1][1]] < ONE_ALARM_S:
            joined[-1] = (joined[-1][0], last)
        else:
            joined.append((first, last))
    return joined


def at_line(answer: Answer, k: float | None) -> dict[str, Any]:
    """What is flagged at one line: k, alarms, and how many of them a week."""
    rows, found = answer.rows, alarms(answer)
    span_s = unix_s(rows.timestamps[-1]) - unix_s(rows.timestamps[0]) if len(rows) > 1 else 0.0
    return {
        "k": k,
        "points": len(rows),
        "flagged": int(rows.flag.sum()),
        "alarms": [[rows.timestamps[first], rows.timestamps[last]] for first, last in found],
        "alarms_per_week": round(len(found) * WEEK_S / span_s, 2) if span_s else None,
    }


def found_labels(answer: Answer, labels: Sequence[Label]) -> list[dict[str, Any]]:
    """For each known anomaly: whether it was flagged while it lasted, how long after its start, or not replayed."""
    times = [unix_s(text) for text in answer.rows.timestamps]
    flagged = [times[position] for position in answer.rows.flag.nonzero()[0].tolist()]
    report = []
    for label in labels:
        first = next((at for at in flagged if label.start_s <= at < label.end_s), None)
        report.append({
            "start": iso(label.start_s), "end": iso(label.end_s), "kind": label.kind,
            "delay_s": None if first is None else first - label.start_s,
            "outside": not times or label.end_s <= times[0] or label.start_s > times[-1],
        })  # fmt: skip
    return report


def print_report(answer: Answer, report: dict[str, Any]) -> None:
    from outliers.cli import table

    table.print_table(answer)
    print(f"\nas seen live: {len(report['alarms'])} alarms, {report['alarms_per_week']} a week (k = {report['k']})")
    print("  line       k  alarms  a week")
    for part, line in zip(LINES, report["lines"]):
        print(f"  {part:>4.2f}×  {line['k']:>6.3f}  {len(line['alarms']):>6}  {line['alarms_per_week']}")
    for label in report["labels"]:
        seen = "not seen" if label["delay_s"] is None else f"seen after {label['delay_s']:.0f} s"
        if label["outside"]:
            seen = "outside the replay"
        print(f"  {label['kind'] or 'anomaly'} {label['start']} to {label['end']}: {seen}")
