"""The proof that the exported file answers as torch does; it must not know what the answer means."""

from __future__ import annotations

import numpy as np
import torch

from export.arithmetic import detect
from export.onnx_file import HasParameters
from export.torch_ops import TorchOps
from outliers.errors import TrainingError
from outliers.infer.model import Model
from outliers.infer.scores import Scores
from outliers.series import Series

TOLERANCE = 1e-4
# A band is the root of what the neighbours leave of the budget: near the line that is a difference of two almost
# equal float32, and its last digits are noise in both.
BAND_TOLERANCE = 1e-2
BAND_FLICKER = 1e-3  # share of bands that may be finite in one only, or further apart, for the same reason


def torch_scores(fitted: HasParameters, series: Series, k: float, mode: str) -> Scores:
    """What the same arithmetic says of every row in torch."""
    with torch.inference_mode():
        out = detect(
            TorchOps(), fitted.parameters,
            timestamp=torch.as_tensor(series.timestamps),
            step=torch.tensor(series.step_s),
            values=torch.as_tensor(series.values, dtype=torch.float32),
            k=torch.tensor(k, dtype=torch.float32),
            causal=torch.tensor(int(mode == "causal")),
            first=torch.tensor(0),
        )  # fmt: skip
    return Scores(*(out[name].numpy() for name in Scores._fields))


def check(fitted: HasParameters, data: bytes, series: list[Series], k: float = 1.25) -> float:
    """Largest relative difference between the file in onnxruntime and torch; TrainingError above the tolerances.

    Relative to a value's own size or, where it is near 0, to the spread of the column. A score is a root, and near 0
    the root of noise: there its square differs by less than float32 holds, so squares are compared, to at least the
    line's. The returned one is that of what bands are made from.
    """
    model = Model.load(data)
    worst = worst_band = 0.0
    for s in series:
        for mode in ("whole", "causal"):
            ours, theirs = model.score(s, k=k, mode=mode), torch_scores(fitted, s, k, mode)
            for name, a, b in zip(Scores._fields, ours, theirs):
                differ = np.isfinite(a) != np.isfinite(b)
                band = name in ("lower", "upper")
                if differ.mean() > (BAND_FLICKER if band else 0.0):
                    raise TrainingError(f"the exported file differs from the network: {name} is finite in one only")
                if band:
                    off = _differences(np.where(differ, np.nan, a), np.where(differ, np.nan, b), 1e-6)
                    worst_band = max(worst_band, float(np.quantile(off, 1.0 - BAND_FLICKER, method="lower")))
                else:
                    off = _differences(a, b, 1e-6) if name == "expected" else _differences(a**2, b**2, 1.0) / 2
                    worst = max(worst, float(off.max(initial=0.0)))
    for found, most in ((worst, TOLERANCE), (worst_band, BAND_TOLERANCE)):
        if found > most:
            raise TrainingError(f"the exported file differs from the network by {found:.1e}, more than {most:.0e}")
    return worst


def _differences(a: np.ndarray, b: np.ndarray, least: float) -> np.ndarray:
    a, b = (np.where(np.isfinite(x), x, 0).astype(np.float64) for x in (a, b))
    size = np.maximum(np.maximum(np.abs(b), b.std(0)), least)
    return np.asarray(np.abs(a - b) / size)
