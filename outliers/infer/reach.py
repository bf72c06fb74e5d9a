"""How far residuals reach at several time scales, and how far a point may go; knows nothing of metrics' names.

Energies are averaged over 3 to 271 points and divided by what such averages usually reach. All of it is made so that
the band has a closed form: an average is linear in a point's own clipped energy.
"""

from __future__ import annotations

from typing import NamedTuple, Optional, Union

import numpy as np

from outliers.infer.scales import Floats, Windows, quantiles, settled

WIDTHS = (3, 9, 31, 91, 271)  # points
# Largest residual, in usual sizes, that a point contributes to each average: one spike must not fill a long one.
CLIPS = (30.0, 9.0, 5.0, 3.0, 2.2)
JOINT_CLIP = 5.0  # the same for the mean over several metrics
OWN_SHARE = 0.25  # of a metric's own energy in its score, the rest is the mean over all metrics

# Causal averages trail and would go on after an event: a long one says at most so many times what the shortest says.
LASTING = 2.0

# What the averages usually reach at their 99 % quantile, of one metric and of the mean over several; measured on the
# unlabelled first halves of the development series. Believed like so many windows of the query's own points.
USUAL = (5.0, 4.0, 3.0, 2.0, 1.5)
USUAL_JOINT = (4.0, 3.0, 2.3, 1.8, 1.4)
BELIEVED = (30.0, 30.0, 10.0, 3.0, 1.0)
# Causally more: of what came before, the last anomaly is a larger part. Of several metrics some are spiky by nature.
CAUSALLY, CAUSALLY_OF_SEVERAL = 10.0, 2.0
# The query's own 99 % quantile is told from a lower one: a share of anomalies that is TAIL times the expected one must
# not raise it. BEYOND: by how much the 99 % quantile usually lies above the 85 % one.
TAIL = 15.0
BEYOND = (3.2, 2.6, 2.1, 1.6, 1.25)
LEAST = 1e-3  # of USUAL: what a flat series reaches is not nothing


class Reach(NamedTuple):
    """[M, T] each. score, own: distance ÷ line over all scales, and at the shortest. room: own energy at the line."""

    score: Floats
    own: Floats
    room: Floats


def reach(e: Floats, windows: Windows, line: Union[float, Floats], contamination: float) -> Reach:
    """Reach of the energies `e` [M, T], 0 where missing.

    line: the distance that scores 1, of all points or of each [M, T].
    contamination: share of the points that is expected to be unusual.
    `room` is the energy that a point alone may have before it scores 1, all others as they are; where those alone are
    over the line, with all others 0; inf where no energy would.
    """
    best = Reach(np.zeros(e.shape), np.zeros(e.shape), np.full(e.shape, np.inf))
    metrics = e.shape[0]
    joint = _Joint(e, windows) if metrics > 1 else None
    share = OWN_SHARE if joint else 1.0
    # With more metrics one is unusual by chance more often: each has to be further out.
    more = 1.0 + np.log(metrics)
    for scale, clip in enumerate(CLIPS):
        own = np.minimum(e, clip**2)
        total, count = windows.energy(own, WIDTHS[scale])
        usual = _usual(total / count, scale, windows, contamination / metrics, USUAL[scale] * more)
        slope = share / (count * usual)
        reached, others = total * slope, (total - own) * slope
        slope_joint: Optional[Floats] = None
        if joint:
            total, of_others, slope_joint = joint.reach(scale, contamination, 1.0 - share)
            reached, others = reached + total, others + of_others
        room = np.where(others < line**2, line**2 - others, line**2)
        room = _energy(room, slope, clip**2, slope_joint)
        distance = np.sqrt(reached) / line
        if windows.causal and scale == 0:
            lasting = LASTING * distance
            enough = _energy(np.maximum((line / LASTING) ** 2 - others, 0.0), slope, clip**2, slope_joint)
        elif windows.causal:
            distance, room = np.minimum(distance, lasting), np.maximum(room, enough)
        np.maximum(best.score, distance, out=best.score)
        np.minimum(best.room, room, out=best.room)
        if scale == 0:
            best.own[...] = distance
    return best


class _Joint:
    """The mean of all metrics' energies at each point, its averages, and each metric's part of it."""

    def __init__(self, e: Floats, windows: Windows) -> None:
        self._observed = np.maximum(windows.seen.sum(axis=0), 1)  # [T]
        self._parts = np.minimum(e, JOINT_CLIP**2) / self._observed  # [M, T]
        self._mean = self._parts.sum(axis=0)
        self._windows = Windows(np.asarray(windows.seen.any(axis=0)), windows.causal)

    def reach(self, scale: int, contamination: float, share: float) -> tuple[Floats, Floats, Floats]:
        """(what is reached [T], the same without a metric's own part [M, T], slope per own energy [T])."""
        total, count = self._windows.energy(self._mean, WIDTHS[scale])
        usual = _usual(total / count, scale, self._windows, contamination, USUAL_JOINT[scale])
        slope = share / (count * usual)
        return total * slope, (total - self._parts) * slope, slope / self._observed


def _usual(mean: Floats, scale: int, windows: Windows, contamination: float, prior: float) -> Floats:
    """What the averages usually reach: by their own quantile, the fewer points the nearer to `prior`."""

    believed = BELIEVED[scale]
    if windows.causal:
        believed *= CAUSALLY if mean.shape[:-1] == (1,) else CAUSALLY_OF_SEVERAL

    def quantile(x: Floats) -> Floats:
        reached = quantiles(x, (1.0 - min(TAIL * contamination, 0.5),))[0] * BEYOND[scale]
        windows_seen = np.maximum((~np.isnan(x)).sum(axis=-1, keepdims=True), 1) / WIDTHS[scale]
        trust = windows_seen / (windows_seen + believed)
        reached = np.fmax(reached, LEAST * prior)
        return np.asarray(np.exp(trust * np.log(reached) + (1.0 - trust) * np.log(prior)))

    usual = settled(quantile, mean if windows.complete else np.where(windows.seen, mean, np.nan), windows.causal)
    return np.where(np.isnan(usual), np.inf, usual)


def _energy(room: Floats, own: Floats, clip2: float, joint: Optional[Floats]) -> Floats:
    """Largest e with own · min(e, clip2) + joint · min(e, JOINT_CLIP²) ≤ room; inf where every e is."""
    with np.errstate(divide="ignore", invalid="ignore"):
        if joint is None:
            e = room / own
            return np.where(e < clip2, e, np.inf)
        low, high = min(clip2, JOINT_CLIP**2), max(clip2, JOINT_CLIP**2)
        both = own + joint
        beyond = low + (room - low * both) / (own if clip2 > JOINT_CLIP**2 else joint)
        return np.where(room <= low * both, room / both, np.where(beyond < high, beyond, np.inf))
