"""Adam with a one-cycle rate over all parameters as one vector; it must not know what the parameters are of.

torch.optim's first use imports its compiler, 800 modules and seconds of every work-horse, and its schedules walk over
parameters in Python. For a network this small that is most of the time. The arithmetic is that of torch.optim.Adam
and torch.optim.lr_scheduler.OneCycleLR with their defaults (a test holds it to them).
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor

BETA_2, EPSILON = 0.999, 1e-8
WARM_UP = 0.3  # share of the steps in which the rate rises
FIRST, LAST = 1 / 25, 1e-4 / 25  # rate at the first and the last step, of the peak
BETA_1 = (0.95, 0.85)  # momentum at the lowest and at the highest rate


class OneCycleAdam:
    """Owns the parameters' memory: each becomes a view into one vector, and so does its gradient.

    After `backward()`, `step()` updates and clears the gradients. steps: how many there will be at most.
    """

    def __init__(self, parameters: Iterable[torch.nn.Parameter], peak: float, steps: int) -> None:
        own = list(parameters)
        self._peak, self._steps, self._taken = peak, max(steps, 2), 0
        self._values = torch.cat([p.detach().reshape(-1) for p in own])
        self._gradients, self._mean, self._square = (torch.zeros_like(self._values) for _ in range(3))
        first = 0
        for p in own:
            here = slice(first, first + p.numel())
            p.data = self._values[here].view_as(p)
            p.grad = self._gradients[here].view_as(p)
            first += p.numel()

    def step(self) -> None:
        rate, beta_1 = one_cycle(self._taken, self._steps, self._peak)
        self._taken += 1
        g = self._gradients
        self._mean.lerp_(g, 1 - beta_1)
        self._square.mul_(BETA_2).addcmul_(g, g, value=1 - BETA_2)
        size = self._square.sqrt().div_(math.sqrt(1 - BETA_2**self._taken)).add_(EPSILON)
        self._values.addcdiv_(self._mean, size, value=-rate / (1 - beta_1**self._taken))
        g.zero_()

    @property
    def values(self) -> Tensor:
        """All parameters as one vector, the one that `step` changes."""
        return self._values


def one_cycle(taken: int, steps: int, peak: float) -> tuple[float, float]:
    """Return the rate and the momentum after `taken` of `steps` steps: up along a cosine, then down."""
    top = WARM_UP * steps - 1
    if taken <= top:
        part, rates, betas = taken / top, (FIRST * peak, peak), BETA_1
    else:
        part, rates, betas = (taken - top) / (steps - 1 - top), (peak, LAST * peak), BETA_1[::-1]
    cosine = (1 - math.cos(math.pi * part)) / 2
    return rates[0] + (rates[1] - rates[0]) * cosine, betas[0] + (betas[1] - betas[0]) * cosine
