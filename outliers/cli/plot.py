"""A picture of one answer: series, prediction, band, anomalies; knows the wire answer, not how it came about."""

from __future__ import annotations

import math
from typing import Any

from outliers.errors import OutliersError

SERIES, EXPECTED, BAND, ANOMALY, LABEL = "#1f3a5f", "#e07b39", "#e07b39", "#c1121f", "#8d99ae"


def plot_answer(
    answer: dict[str, Any],
    actual: dict[str, float | None],
    path: str,
    *,
    title: str = "",
    labels: list[tuple[str, str, str]] | None = None,
) -> None:
    """Write `path` (.png or .svg) from a wire answer.

    answer: the JSON of POST /calculate. actual: value by timestamp, as Druid wrote it. labels: known anomalies as
    (start, end, kind), ISO times; drawn as grey spans behind the series. Raises OutliersError where matplotlib is
    not installed: executors do not carry it.
    """
    try:
        import matplotlib

        matplotlib.use("Agg")
        import matplotlib.dates as mdates
        import matplotlib.pyplot as plt
        import numpy as np
    except ImportError as exc:
        raise OutliersError(
            "a plot needs matplotlib, which this installation does not have: pip install matplotlib"
        ) from exc

    def instants(texts: list[str]) -> Any:
        return np.array([np.datetime64(text[:23].rstrip("Z")) for text in texts])

    def column(key: str) -> Any:
        return np.array([math.nan if row.get(key) is None else row[key] for row in rows], dtype=float)

    rows = answer["prediction"]
    figure, (axes, below) = plt.subplots(
        2, 1, figsize=(13, 6.2), sharex=True, gridspec_kw={"height_ratios": [4, 1], "hspace": 0.08}
    )
    if rows:
        when = instants([row["timestamp"] for row in rows])
        values = np.array(
            [math.nan if actual.get(row["timestamp"]) is None else actual[row["timestamp"]] for row in rows],
            dtype=float,
        )
        scale, unit = _unit(values)
        axes.fill_between(
            when, column("lower") / scale, column("upper") / scale, color=BAND, alpha=0.18, lw=0, label="band"
        )
        axes.plot(when, values / scale, color=SERIES, lw=1.1, label=answer.get("metric", "value"))
        axes.plot(when, column("forecast") / scale, color=EXPECTED, lw=1.0, ls="--", label="prediction")
        flagged = {row["timestamp"] for row in answer["anomalies"]}
        marks = np.array([row["timestamp"] in flagged for row in rows])
        axes.plot(when[marks], values[marks] / scale, "o", color=ANOMALY, ms=4, label="anomalies", zorder=5)
        below.plot(when, column("score"), color=SERIES, lw=0.9)
        below.axhline(1.0, color=ANOMALY, lw=0.8, ls=":")
        below.set_ylim(0, max(2.0, float(np.nanmax(column("score"), initial=0)) * 1.05))
        _limit(axes, values / scale, column("forecast") / scale)
        axes.set_ylabel(f"{answer.get('metric', '')} {unit}".strip())
    for number, (start, end, kind) in enumerate(labels or []):
        span = instants([start, end])
        axes.axvspan(*span, color=LABEL, alpha=0.3, lw=0, zorder=0, label="injected" if number == 0 else None)
        axes.annotate(
            kind,
            (span[0], 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(2, -10),
            textcoords="offset points",
            fontsize=8,
            color="#4a5568",
        )
    below.set_ylabel("score")
    below.xaxis.set_major_formatter(mdates.ConciseDateFormatter(below.xaxis.get_major_locator()))
    axes.set_title(title, loc="left", fontsize=11)
    axes.legend(loc="upper right", fontsize=8, ncols=5, frameon=False)
    for each in (axes, below):
        each.spines[["top", "right"]].set_visible(False)
        each.grid(axis="y", color="#e2e8f0", lw=0.6)
    try:
        figure.savefig(path, dpi=110, bbox_inches="tight")
    except (OSError, ValueError) as exc:
        raise OutliersError(f"the plot could not be written: {exc}") from exc
    finally:
        plt.close(figure)


def _unit(values: Any) -> tuple[float, str]:
    """A divisor and its name that keep axis labels short."""
    import numpy as np

    top = float(np.nanmax(np.abs(values), initial=0.0))
    for factor, name in ((1e12, "(10¹²)"), (1e9, "(10⁹)"), (1e6, "(millions)"), (1e3, "(thousands)")):
        if top >= 2 * factor:
            return factor, name
    return 1.0, ""


def _limit(axes: Any, *lines: Any) -> None:
    """Let the series and its prediction, not a wide band, set the height."""
    import numpy as np

    finite = np.concatenate([line[np.isfinite(line)] for line in lines])
    if finite.size:
        low, high = float(finite.min()), float(finite.max())
        margin = 0.15 * (high - low) or 1.0
        axes.set_ylim(min(low, 0.0) if low >= 0 and low < 0.5 * high else low - margin, high + 2 * margin)
