"""One answer as a table or CSV for people; knows the answer, not how it came about."""

from __future__ import annotations

import csv
import dataclasses
import sys
from typing import Any

import numpy as np

from outliers.times import instants_ms
from outliers.web.answer import Answer, Rows

NOTHING = "no rows: nothing was judged"
SHOWN = 40  # runs in a table; JSON and CSV have all


def in_time(answer: Answer) -> Answer:
    """Return the answer with its rows in order of time, one a timestamp (the last of several, as in JSON)."""
    rows = answer.rows
    at_ms_of = instants_ms(rows.timestamps).tolist() if rows.timestamps else []
    positions = {at_ms: position for position, at_ms in enumerate(at_ms_of)}
    order = [positions[at_ms] for at_ms in sorted(positions)]
    columns: dict[str, Any] = {
        name: column[np.array(order, int)] for name, column in vars(rows).items() if isinstance(column, np.ndarray)
    }
    columns["timestamps"] = [rows.timestamps[position] for position in order]
    columns["metrics"] = {now: rows.metrics[was] for now, was in enumerate(order) if was in rows.metrics}
    if rows.metric is not None:
        columns["metric"] = [rows.metric[position] for position in order]
    return dataclasses.replace(answer, rows=dataclasses.replace(rows, **columns))


def runs(answer: Answer) -> list[tuple[int, int]]:
    """First and last position of each run of flagged rows; a row that is not flagged ends a run."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], answer.rows.flag.astype(np.int8), [0]])))
    return [(int(start), int(end) - 1) for start, end in zip(edges[::2], edges[1::2])]


def strongest(rows: Rows, first: int, last: int) -> int:
    """Return the position of the row that a run is shown by: furthest out in widths of its band, carried by nobody.

    Where no row of it has a band that it is outside of, the one of the largest score.
    """
    run = slice(first, last + 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        out = np.abs(rows.actual[run] - rows.forecast[run]) / (rows.upper[run] - rows.lower[run])
    out[rows.carried[run]] = np.nan
    best = rows.score[run].argmax() if np.isnan(out).all() else np.nanargmax(out)
    return first + int(best)


def title(answer: Answer) -> str:
    if not len(answer.rows):
        return NOTHING
    model = answer.model
    who = f"model {model.name} {model.version}" if model.kind == "autoencoder" else "no model"
    return f"{answer.metric}, {answer.granularity}, {who}: {len(runs(answer))} anomalous stretches"


def print_table(answer: Answer) -> None:
    """Print an answer whose rows are in order of time, by stretches."""
    rows, found = answer.rows, runs(answer)
    print(title(answer))
    for sentence in (*([answer.model.reason] if answer.model.reason else []), *answer.warnings):
        print(f"  {sentence}")
    if not len(rows):
        return
    if found:
        print(f"\n  {'from':<26} {'to':<26} {'points':>6} {'score':>7}  {'actual':>14} {'expected':>14}  metrics")
    for first, last in found[:SHOWN]:
        peak = strongest(rows, first, last)
        print(
            f"  {rows.timestamps[first]:<26} {rows.timestamps[last]:<26} {last - first + 1:>6}"
            f" {rows.score[peak]:>7.2f}  {rows.actual[peak]:>14.6g} {rows.forecast[peak]:>14.6g}"
            f"  {', '.join(rows.metrics.get(peak, ()))}"
        )
    if len(found) > SHOWN:
        print(f"  … and {len(found) - SHOWN} more (--format json or csv has all)")
    unjudged = sum(score != score for score in rows.score.tolist())
    not_judged = f", {unjudged} not judged" if unjudged else ""
    print(f"\n{len(rows)} points, {int(rows.flag.sum())} of them anomalous{not_judged}")


def print_csv(answer: Answer) -> None:
    rows = answer.rows
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["timestamp", "actual", "forecast", "lower", "upper", "score", "anomaly"])
    columns = (rows.actual, rows.forecast, rows.lower, rows.upper, rows.score)
    for position, timestamp in enumerate(rows.timestamps):
        numbers = [float(column[position]) for column in columns]
        cells = ["" if number != number else repr(number) for number in numbers]
        writer.writerow([timestamp, *cells, int(rows.flag[position])])
