"""How well each detector finds what is labelled: fits on the first half of every series, answers the second.

`python -m benchmarks.quality --data DIR --detector baseline --query hour --lead-in P1D --mode whole --json OUT` scores
any folder of `timestamp,<metric…>,label` CSV files. Labels are read after the answers, for the figures only. Without
`--data` the whole table is measured and printed (`benchmarks.quality_table`).
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

import numpy as np

from benchmarks import scorer
from benchmarks.detectors import DETECTORS, Detector, Settings
from benchmarks.labelled import DAY_S, Labelled, part, read_folder
from outliers.series import lead_in_s

ALARM_GAP_S = 3600  # runs less apart are one alarm, as for `alarms_per_day`
HOUR_POINTS = 60  # the README's example query, whatever the step
FIGURES = (
    "vus_pr", "f1", "best_f1", "event_f1", "best_event_f1", "event_recall", "false_alarms_per_1k", "delay_points",
)  # fmt: skip


@dataclass(frozen=True)
class Protocol:
    """How the second half is asked about."""

    detector: str
    query: str = "all"
    lead_in: str = "none"
    mode: str = "whole"
    settings: Settings = field(default_factory=Settings)
    stretch: Optional[int] = None  # points: ask only about the stretch of the second half with the most events


def pieces(item: Labelled, protocol: Protocol) -> Iterator[tuple[int, int, int]]:
    """(first point of the lead-in, first asked point, end) of each query, in grid points."""
    half = int(item.position[len(item.position) // 2])
    end = len(item.series)
    if protocol.stretch and end - half > protocol.stretch:
        half, end = _busiest(item, half, protocol.stretch)
    length = {"hour": HOUR_POINTS, "day": item.per_day, "all": end - half}[protocol.query]
    before = lead_in_points(protocol.lead_in, item.series.step_s)
    for start in range(half, end, max(length, 1)):
        yield max(0, start - before), start, min(start + length, end)


def _busiest(item: Labelled, half: int, points: int) -> tuple[int, int]:
    marked = np.zeros(len(item.series), np.bool_)
    marked[item.position[item.label]] = True
    starts = scorer.runs(marked)[0]
    starts = starts[starts >= half]
    latest = len(item.series) - points
    if not len(starts):
        return half, half + points
    begins = np.minimum(np.maximum(starts - points // 10, half), latest)
    held = np.searchsorted(starts, begins + points) - np.searchsorted(starts, begins)
    begin = int(begins[np.argmax(held)])
    return begin, begin + points


def lead_in_points(lead_in: str, step_s: int) -> int:
    """Points that a lead-in of whole days holds, or that of the service (`auto`)."""
    if lead_in == "none":
        return 0
    if lead_in == "auto":
        return lead_in_s(step_s) // step_s
    days = re.fullmatch(r"P(\d+)D", lead_in)
    if days is None:
        raise SystemExit(f"--lead-in is none, auto or whole days, such as P1D, not {lead_in!r}")
    return int(days[1]) * DAY_S // step_s


def evaluate(item: Labelled, protocol: Protocol) -> dict[str, Any]:
    """All figures of one series."""
    detector: Detector = DETECTORS[protocol.detector](protocol.settings)
    half = int(item.position[len(item.position) // 2])
    began = time.perf_counter()
    detector.fit(part(item.series, 0, half))
    fit_s = time.perf_counter() - began
    score, flag = np.full(len(item.series), np.nan), np.zeros(len(item.series), np.bool_)
    answered, answer_ms = np.zeros(len(item.series), np.bool_), []
    for lead, start, stop in pieces(item, protocol):
        query = part(item.series, lead, stop)
        asked = np.arange(lead, stop) >= start
        began = time.perf_counter()
        scores, flags = detector.answer(query, asked, protocol.mode)
        answer_ms.append(1000.0 * (time.perf_counter() - began))
        score[start:stop], flag[start:stop] = scores[start - lead :], flags[start - lead :]
        answered[start:stop] = True
    rows = item.position[answered[item.position]]
    label = item.label[answered[item.position]]
    figures = scorer.measure(label, score[rows].astype(np.float64), flag[rows], item.series.values[rows, 0])
    step_s = item.series.step_s
    counted = {
        "false_alarms": scorer.false_alarms(label, flag[rows], ALARM_GAP_S / step_s),
        "days_without_event": float((~label).sum()) * step_s / DAY_S,
    }
    timing = {"fit_s": fit_s, "answer_ms": float(np.median(answer_ms))}
    return {"family": item.family, "name": item.name, **figures, **counted, **timing}


def summary(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Means per family (None left out) and the number of series; `all` over the series of all families."""
    families: dict[str, dict[str, Any]] = {}
    for family in [*sorted({row["family"] for row in rows}), "all"]:
        of_family = [row for row in rows if family in ("all", row["family"])]
        means = {}
        for figure in (*FIGURES, "fit_s", "answer_ms"):
            known = [row[figure] for row in of_family if row[figure] is not None]
            means[figure] = float(np.mean(known)) if known else None
        families[family] = {**means, "n": len(of_family)}
    return families


def run(items: list[Labelled], protocol: Protocol, processes: int = 1) -> list[dict[str, Any]]:
    """`evaluate` of every series, on at most two processes."""
    jobs = [(item, protocol) for item in items]
    if processes < 2 or len(jobs) < 2:
        return [evaluate(*job) for job in jobs]
    order = sorted(range(len(jobs)), key=lambda i: -items[i].series.values.size)
    with multiprocessing.get_context("spawn").Pool(min(processes, 2)) as pool:
        results = pool.starmap(evaluate, [jobs[i] for i in order], chunksize=1)
    return [result for _, result in sorted(zip(order, results), key=lambda pair: pair[0])]


def table(families: dict[str, dict[str, Any]]) -> str:
    """The families' means as text."""
    lines = [f"{'family':24}" + "".join(f"{name[:11]:>13}" for name in (*FIGURES, "fit_s", "answer_ms", "n"))]
    for family, means in families.items():
        cells = ["–" if (v := means[name]) is None else f"{v:.3f}" for name in (*FIGURES, "fit_s", "answer_ms")]
        lines.append(f"{family:24}" + "".join(f"{cell:>13}" for cell in cells) + f"{means['n']:>13}")
    return "\n".join(lines)


def stated_and_found(rows: list[dict[str, Any]], stated: float) -> str:
    """How true the stated rate of false alarms is, as text; a count of alarms is true to the next whole one."""
    counted, days = (np.array([row[name] for row in rows]) for name in ("false_alarms", "days_without_event"))

    def share(factor: float) -> float:
        allowed = np.floor(stated * days / factor) <= counted
        return float((allowed & (counted <= np.ceil(stated * days * factor))).mean())

    return (
        f"false alarms a day: stated {stated:g}, found {counted.sum() / days.sum():.2f}; "
        f"true within a factor of 2 for {share(2):.0%} of the series, of 4 for {share(4):.0%}; "
        f"more than twice as many for {(counted > np.ceil(2 * stated * days)).mean():.0%}"
    )


def main(arguments: Optional[list[str]] = None) -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.quality", description=__doc__)
    parser.add_argument("--data", type=Path, help="folder of CSV files; sub-folders name families")
    parser.add_argument("--detector", choices=sorted(DETECTORS), default="baseline")
    parser.add_argument("--query", choices=("hour", "day", "all"), default="all")
    parser.add_argument("--lead-in", default="none", help="none, P1D, P7D, auto (as the service)")
    parser.add_argument("--mode", choices=("whole", "causal"), default="whole")
    parser.add_argument("--json", type=Path, help="where the figures are written")
    parser.add_argument("--k", type=float, help="the line, instead of the detector's default")
    parser.add_argument(
        "--alarms-per-day", type=float, default=Settings().alarms_per_day, help="the model's budget, 0 = its fixed line"
    )
    parser.add_argument("--no-witness", action="store_true", help="flag without the second witness")
    parser.add_argument("--epochs", type=int, help="of the model's training, instead of its default")
    parser.add_argument("--stretch", type=int, help="ask only about the busiest stretch of so many points")
    parser.add_argument("--family", action="append", help="only these families")
    parser.add_argument("--processes", type=int, default=2)
    given = parser.parse_args(arguments)
    os.nice(5)
    if given.data is None:
        from benchmarks.quality_table import print_table

        print_table(processes=given.processes)
        return
    if not given.data.is_dir():
        raise SystemExit(f"{given.data} is not a folder")
    protocol = Protocol(
        detector=given.detector,
        query=given.query,
        lead_in=given.lead_in,
        mode=given.mode,
        settings=Settings(given.k, given.alarms_per_day, not given.no_witness, given.epochs),
        stretch=given.stretch,
    )
    items = [item for item in read_folder(given.data) if not given.family or item.family in given.family]
    if not items:
        raise SystemExit(f"{given.data} holds no CSV files with labels")
    rows = run(items, protocol, given.processes)
    families = summary(rows)
    print(table(families))
    if given.detector == "model" and given.k is None and given.alarms_per_day:
        print(stated_and_found(rows, given.alarms_per_day))
    if given.json:
        given.json.write_text(json.dumps({"series": rows, "families": families}, indent=1) + "\n")


if __name__ == "__main__":
    main()
