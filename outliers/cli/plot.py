"""A picture of one answer: series, prediction, band, anomalies; knows the answer, not how it came about."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from outliers.errors import OutliersError
from outliers.times import instants_ms
from outliers.web.answer import Answer

SERIES, EXPECTED, BAND, ANOMALY, LABEL = "#1f3a5f", "#e07b39", "#e07b39", "#c1121f", "#8d99ae"


def plot_answer(answer: Answer, path: str, *, title: str = "", labels: Sequence[tuple[str, str, str]] = ()) -> None:
    """Write `path` (.png or .svg) from an answer.

    labels: known anomalies as (start, end, kind), ISO times; drawn as grey spans behind the series. Raises
    OutliersError where matplotlib is not installed (executors do not carry it) or the file cannot be written.
    """
    try:
        import matplotlib

        matplotlib.use("Agg")
        import matplotlib.dates as mdates
        import matplotlib.pyplot as plt
    except ImportError as exc:
        raise OutliersError(
            "a plot needs matplotlib, which this installation does not have: pip install matplotlib"
        ) from exc

    figure, (axes, below) = plt.subplots(
        2, 1, figsize=(13, 6.2), sharex=True, gridspec_kw={"height_ratios": [4, 1], "hspace": 0.08}
    )
    if len(answer.rows):
        _draw_rows(axes, below, answer)
    for number, (start, end, kind) in enumerate(labels):
        span = instants([start, end])
        axes.axvspan(*span, color=LABEL, alpha=0.3, lw=0, zorder=0, label="injected" if number == 0 else None)
        at = {"xycoords": ("data", "axes fraction"), "xytext": (2, -10), "textcoords": "offset points"}
        axes.annotate(kind, (span[0], 1.0), fontsize=8, color="#4a5568", **at)
    below.set_ylabel("score")
    below.set_xlabel("UTC", loc="left", fontsize=8)
    below.xaxis.set_major_formatter(mdates.ConciseDateFormatter(below.xaxis.get_major_locator()))
    axes.set_title(title, loc="left", fontsize=11, pad=20)
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), fontsize=8, ncols=6, frameon=False)
    for each in (axes, below):
        each.spines[["top", "right"]].set_visible(False)
        each.grid(axis="y", color="#e2e8f0", lw=0.6)
    try:
        figure.savefig(path, dpi=110, bbox_inches="tight")
    except (OSError, ValueError) as exc:
        raise OutliersError(f"the plot could not be written: {exc}") from exc
    finally:
        plt.close(figure)


def instants(texts: Sequence[str]) -> NDArray[np.datetime64]:
    """Times as Druid writes them, as UTC instants for an axis."""
    return instants_ms(texts).astype("datetime64[ms]")


def _draw_rows(axes: Any, below: Any, answer: Answer) -> None:
    rows, when = answer.rows, instants(answer.rows.timestamps)
    scale, unit = _unit(rows.actual)
    axes.fill_between(when, rows.lower / scale, rows.upper / scale, color=BAND, alpha=0.18, lw=0, label="band")
    axes.plot(when, rows.actual / scale, color=SERIES, lw=1.1, label=answer.metric or "value")
    axes.plot(when, rows.forecast / scale, color=EXPECTED, lw=1.0, ls="--", label="expected")
    for marked, inside, label in (
        (rows.flag & ~rows.carried, ANOMALY, "anomaly"),
        (rows.carried, "white", "anomaly carried by its neighbours"),
    ):
        if marked.any():
            at, values = when[marked], rows.actual[marked] / scale
            axes.plot(at, values, "o", color=ANOMALY, mfc=inside, ms=4, label=label, zorder=5)
    _limit(axes, rows.actual / scale, rows.forecast / scale)
    axes.set_ylabel(f"{answer.metric or ''} {unit}".strip())
    below.plot(when, rows.score, color=SERIES, lw=0.9)
    below.axhline(1.0, color=ANOMALY, lw=0.8, ls=":")
    highest = float(rows.score[np.isfinite(rows.score)].max(initial=0.0))
    if highest > 5:
        ticks = _score_ticks(highest)
        below.set_yscale("symlog", linthresh=1.0)
        below.set_yticks(ticks, labels=[f"{tick:,g}" for tick in ticks])
        below.set_yticks([], minor=True)
    below.set_ylim(0, max(2.0, highest * 1.1))


def _score_ticks(highest: float) -> list[float]:
    """0, 1 and a few more up to the highest score: 3, 10, 30, 100, or powers of ten alone where there are more."""
    powers = [10.0**power for power in range(1 + int(np.log10(highest)))]
    if highest < 200:
        return [0.0, *(tick for power in powers for tick in (power, 3 * power) if tick <= highest)]
    return [0.0, *powers[:: -(-len(powers) // 5)]]


def _unit(values: Any) -> tuple[float, str]:
    """A divisor and its name that keep axis labels short."""
    top = float(np.nanmax(np.abs(values), initial=0.0))
    for factor, name in ((1e12, "(10¹²)"), (1e9, "(10⁹)"), (1e6, "(millions)"), (1e3, "(thousands)")):
        if top >= 2 * factor:
            return factor, name
    return 1.0, ""


def _limit(axes: Any, *lines: Any) -> None:
    """Let the series and its prediction, not a wide band, set the height."""
    finite = np.concatenate([line[np.isfinite(line)] for line in lines])
    if finite.size:
        low, high = float(finite.min()), float(finite.max())
        margin = 0.15 * (high - low) or 1.0
        axes.set_ylim(min(low, 0.0) if low >= 0 and low < 0.5 * high else low - margin, high + 2 * margin)
