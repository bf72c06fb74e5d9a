"""What the service before this one answers without a model: an isolation forest fitted on the query itself.

Written from its description in docs/detection.md. Needs scikit-learn, which belongs to the benchmarks only.
"""

from __future__ import annotations

import numpy as np
from sklearn.ensemble import IsolationForest

from outliers.series import Series

TREES = 100
SEED = 42
SENSITIVITY = 0.95
CONTAMINATION = 0.01


def answer(series: Series) -> tuple[np.ndarray, np.ndarray]:
    """(score, flag), [T] each; with several metrics, those of the metric that is furthest out."""
    points, score, flag = len(series), np.full(len(series), -np.inf), np.zeros(len(series), np.bool_)
    if points < 2:
        return np.zeros(points), flag
    for column in range(len(series.metrics)):
        features = _features(series.values[:, column], series.timestamps)
        forest = IsolationForest(n_estimators=TREES, contamination=CONTAMINATION, random_state=SEED).fit(features)
        offset = SENSITIVITY * (1.0 + forest.offset_) - 1.0
        usual = forest.score_samples(features)
        np.maximum(score, -usual, out=score)
        flag |= usual < offset
    return score, flag


def _features(values: np.ndarray, timestamps: np.ndarray) -> np.ndarray:
    """Smoothed value, its absolute difference and that difference's sign, sine of the hour, cosine of the weekday."""
    x = np.nan_to_num(values)
    points = len(x)
    width = max(1, int(max(0.05 * points, 5 + np.log(points))))
    kernel = np.linspace(1.0, 0.0, width + 1)[1:-1]  # falling linearly with the distance from the point
    sides = np.concatenate([kernel[::-1], [0.0], kernel])
    kernel = np.where(np.arange(len(sides)) == len(kernel), 0.5, 0.5 * sides / max(sides.sum(), 1e-12))
    padded = np.pad(x, len(kernel) // 2, mode="edge")
    smooth = np.convolve(padded, kernel, "valid")
    change = np.diff(smooth, prepend=smooth[0])
    hour = (timestamps // 3600) % 24
    weekday = (timestamps // 86_400 + 3) % 7
    return np.column_stack(
        [smooth, np.abs(change), np.sign(change), np.sin(2 * np.pi * hour / 24), np.cos(2 * np.pi * weekday / 7)]
    )
