"""Labelled series from files, on their regular grid; knows nothing of detectors."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from outliers.series import Series

DAY_S = 86_400


@dataclass(frozen=True)
class Labelled:
    """A series with labels. position: [n], the grid point of each row of the file; label: [n] of the rows."""

    family: str
    name: str
    series: Series
    position: NDArray[np.int64]
    label: NDArray[np.bool_]

    @property
    def per_day(self) -> int:
        return max(DAY_S // self.series.step_s, 1)


def read_folder(folder: Path) -> Iterator[Labelled]:
    """Every `timestamp,<metric…>,label` CSV file (gz or not) under `folder`; its sub-folder names the family."""
    for path in sorted(folder.rglob("*.csv*")):
        if path.name.endswith((".csv", ".csv.gz")):
            family = path.parent.relative_to(folder).as_posix()
            yield read_file(path, folder.name if family == "." else family)


def read_file(path: Path, family: str) -> Labelled:
    """One file. Rows are put on the grid of their commonest step; of two on one grid point the last one counts."""
    table = pd.read_csv(path)
    metrics = tuple(name for name in table.columns if name not in ("timestamp", "label"))
    clock = table["timestamp"]
    if not pd.api.types.is_numeric_dtype(clock):
        clock = pd.to_datetime(clock, utc=True).astype("datetime64[s, UTC]").astype("int64")
    clock_s = clock.to_numpy(np.int64)
    order = np.argsort(clock_s, kind="stable")
    clock_s, table = clock_s[order], table.iloc[order]
    step_s = max(int(np.median(np.diff(clock_s))), 1) if len(clock_s) > 1 else 60
    position = np.rint((clock_s - clock_s[0]) / step_s).astype(np.int64)
    points = int(position[-1]) + 1
    values = np.full((points, len(metrics)), np.nan)
    values[position] = table[list(metrics)].to_numpy(np.float64)
    series = Series(clock_s[0] + step_s * np.arange(points), values, metrics, iso_step(step_s), step_s)
    name = path.name.removesuffix(".gz").removesuffix(".csv")
    return Labelled(family, name, series, position, table["label"].to_numpy() > 0)


def iso_step(step_s: int) -> str:
    """A step as ISO text: PT5M."""
    for seconds, form in ((DAY_S, "P{}D"), (3600, "PT{}H"), (60, "PT{}M")):
        if step_s % seconds == 0:
            return form.format(step_s // seconds)
    return f"PT{step_s}S"


def part(series: Series, start: int, stop: int) -> Series:
    """Grid points `start` to `stop` (not included) of a series."""
    return Series(
        series.timestamps[start:stop], series.values[start:stop], series.metrics, series.granularity, series.step_s
    )
