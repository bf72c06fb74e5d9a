"""The whole table of `make quality`: every detector, query length and lead-in, over labelled and simulated series.

Knows nothing of how a series is answered; `benchmarks.quality` does that. Labelled series are looked for beside the
checkout (`../shared/data/labelled`); what is not there is said and left out.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.labelled import Labelled, read_folder
from benchmarks.quality import Protocol, run
from benchmarks.simulated import read_simulator

LABELLED = Path(__file__).parents[2] / "shared" / "data" / "labelled"
STRETCH = 6_000  # points of each second half that are asked about: its busiest ones
ASKED = (
    ("all", "none", "whole"),
    ("day", "none", "whole"),
    ("hour", "none", "whole"),
    ("hour", "P1D", "whole"),
    ("hour", "auto", "whole"),
    ("hour", "P1D", "causal"),
)
COMPARED = ("baseline", "model", "reference", "old")
SHOWN = {"vus_pr": "VUS-PR", "event_f1": "event F1", "f1": "point F1", "false_alarms_per_1k": "false runs per 1,000"}
RESAMPLES = 1_000


def series() -> list[Labelled]:
    """What can be measured here, and a sentence for what cannot."""
    if LABELLED.is_dir():
        found = list(read_folder(LABELLED))
    else:
        print(f"Left out: labelled series ({LABELLED} is not there).")
        found = []
    return [*found, *read_simulator()]


def interval(values: Sequence[float], seed: int = 0) -> tuple[float, float]:
    """Bootstrap interval of the mean, 90 %: over series drawn again."""
    random = np.random.default_rng(seed)
    drawn = random.choice(np.asarray(values), (RESAMPLES, len(values)))
    low, high = np.quantile(drawn.mean(axis=1), (0.05, 0.95))
    return float(low), float(high)


def cell(rows: list[dict[str, Any]], figure: str) -> str:
    known = [row[figure] for row in rows if row[figure] is not None]
    if not known:
        return "–"
    low, high = interval(known)
    return f"{np.mean(known):.3f} [{low:.2f}, {high:.2f}]"


def can(detector: str, query: str, mode: str, items: list[Labelled]) -> str:
    """Why a detector is not asked, or nothing: what would take hours is left out, and said."""
    if detector == "old" and mode == "causal":
        return "the old service has no causal mode"
    if detector == "old" and query == "hour":
        return "the old service takes 70 ms an answer: hours for queries of an hour"
    if detector in ("old", "reference") and len(items[0].series.metrics) > 1 and (detector == "old" or mode != "whole"):
        return f"{detector} on several metrics takes too long"
    return ""


def print_table(detectors: Sequence[str] = COMPARED, processes: int = 2, stretch: int = STRETCH) -> None:
    """Measure and print, family by family."""
    items = series()
    families = sorted({item.family for item in items})
    print(f"Means over series [90 % bootstrap interval]; the busiest {stretch} points of each second half.")
    for query, lead_in, mode in ASKED:
        print(f"\n## {query}, lead-in {lead_in}, {mode}\n")
        print("| family (series) | detector | " + " | ".join(SHOWN.values()) + " | s per fit | ms per answer |")
        print("|---" * (len(SHOWN) + 4) + "|")
        for family in families:
            of_family = [item for item in items if item.family == family]
            for detector in detectors:
                if why := can(detector, query, mode, of_family):
                    print(f"| {family} ({len(of_family)}) | {detector} | left out: {why} |")
                    continue
                began = time.perf_counter()
                rows = run(of_family, Protocol(detector, query, lead_in, mode, stretch=stretch), processes)
                figures = " | ".join(cell(rows, figure) for figure in SHOWN)
                timing = " | ".join(f"{np.median([row[name] for row in rows]):.2f}" for name in ("fit_s", "answer_ms"))
                print(f"| {family} ({len(of_family)}) | {detector} | {figures} | {timing} |", flush=True)
                if time.perf_counter() - began > 600:
                    print(f"\n(the line above took {time.perf_counter() - began:.0f} s)\n")
