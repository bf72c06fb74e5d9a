"""The masked autoencoder and its training; it must not know where the windows come from, nor of scores.

Spans of two points are hidden in a window of 32 and reconstructed from the rest, all metrics together; one network
serves every granularity of a model (each has an embedding of its own), and no window crosses from one to another.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Optional

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from export.autoencoder import encode, patterns
from export.parameters import WINDOW
from export.torch_ops import TorchOps
from outliers.train.adam import OneCycleAdam

WIDTH, BOTTLENECK = 16, 24
_VALIDATION_WINDOWS = 256
_CHECK_EVERY = 50  # steps between looks at the validation windows
_PATIENCE = 8  # looks without a better one before it stops


@dataclass(frozen=True)
class Stretch:
    """One granularity's training data for the network: deviations g and what was seen [T, M], float32."""

    granularity: int
    g: Tensor
    seen: Tensor


@dataclass(frozen=True)
class Trained:
    """How the training went: steps taken, the loss at the best validation and there before the first step."""

    steps: int
    train_loss: float
    validation_loss: float
    first_loss: float


class Autoencoder(nn.Module):
    """Weights by name, as `export.autoencoder.encode` takes them, and an embedding per granularity and metric."""

    def __init__(self, granularities: int, metrics: int):
        super().__init__()
        inner = metrics * WIDTH

        def weight(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.randn(*shape) / shape[0] ** 0.5)

        self.embedding = nn.Parameter(0.1 * torch.randn(granularities, metrics, WIDTH))
        self.weights = nn.ParameterDict({
            "see": weight(WINDOW, WIDTH), "see_mask": weight(WINDOW, WIDTH),
            "mix_in": weight(inner, BOTTLENECK), "mix_in_bias": nn.Parameter(torch.zeros(BOTTLENECK)),
            "mix_out": weight(BOTTLENECK, inner), "mix_out_bias": nn.Parameter(torch.zeros(inner)),
            "show": nn.Parameter(torch.zeros(WIDTH, WINDOW)), "show_bias": nn.Parameter(torch.zeros(WINDOW)),
        })  # fmt: skip

    def forward(self, x: Tensor, v: Tensor, granularity: Tensor) -> Tensor:
        """x, v [N, M, W], granularity [N] -> the reconstruction [N, M, W]."""
        h, mean = encode(TorchOps(), self.weights, self.embedding[granularity], x, v, x.shape[1], WIDTH)
        return h @ self.weights["show"] + self.weights["show_bias"] + mean

    def arrays(self) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """The weights and the embedding as arrays of their own."""
        return (
            {name: w.detach().numpy().copy() for name, w in self.weights.items()},
            self.embedding.detach().numpy().copy(),
        )


class Windows:
    """Draws windows from the stretches: which of them by their share of all points, where by chance."""

    def __init__(self, stretches: list[Stretch], seed: int, metrics: int):
        self._random = np.random.default_rng(seed)
        edge = torch.zeros(WINDOW, metrics)
        self._g = torch.cat([part for s in stretches for part in (s.g, edge)])  # an edge of nothing after each
        self._seen = torch.cat([part for s in stretches for part in (s.seen, edge)])
        first, starts, owner = 0, [], []
        for s in stretches:
            here = np.arange(first, first + max(len(s.g) - WINDOW // 2, 1))
            starts.append(here)
            owner.append(np.full(len(here), s.granularity))
            first += len(s.g) + WINDOW
        self._starts, self._owner = np.concatenate(starts), np.concatenate(owner)
        self._patterns = torch.as_tensor(patterns().reshape(-1, WINDOW))

    @property
    def places(self) -> int:
        return len(self._starts)

    def draw(self, n: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """x, v, hidden-and-seen [n, M, W] and granularity [n]; some begin or end within the window, as queries do."""
        chosen = self._random.integers(0, self.places, n)
        rows = torch.as_tensor(self._starts[chosen][:, None] + np.arange(WINDOW))
        x = self._g[rows].transpose(1, 2)
        seen = self._seen[rows].transpose(1, 2)
        pattern = self._patterns[torch.as_tensor(self._random.choice(8, n, p=[0.175] * 4 + [0.075] * 4))]
        cut = self._random.integers(0, WINDOW // 2, (n, 2)) * (self._random.random((n, 2)) < 0.1)
        place = np.arange(WINDOW)
        inside = (place >= cut[:, :1]) & (place < WINDOW - cut[:, 1:])
        v = seen * (pattern * torch.as_tensor(inside, dtype=torch.float32))[:, None, :]
        asked = seen * (1 - pattern)[:, None, :]
        return x, v, asked, torch.as_tensor(self._owner[chosen])


def _loss(model: nn.Module, batch: tuple[Tensor, Tensor, Tensor, Tensor]) -> Tensor:
    x, v, asked, granularity = batch
    out = model(x, v, granularity)
    each = functional.smooth_l1_loss(out, x.clamp(-20, 20), reduction="none")
    return (each * asked).sum() / asked.sum().clamp(min=1.0)


def train(
    model: Autoencoder,
    fit_on: list[Stretch],
    validate_on: list[Stretch],
    steps: int,
    batch_size: int,
    seed: int,
    progress: Optional[Callable[[float, str], None]] = None,
    start_from: Optional[Mapping[str, Tensor]] = None,
) -> Trained:
    """Train in place with Adam and a one-cycle rate; leave the weights that were best on the validation windows."""
    if start_from is not None:
        model.load_state_dict(dict(start_from))
    metrics = model.embedding.shape[1]
    windows = Windows(fit_on, seed, metrics)
    held = Windows(validate_on or fit_on, seed + 1, metrics).draw(_VALIDATION_WINDOWS)
    peak = 1e-3 if start_from is not None else 3e-3
    optimizer = OneCycleAdam(model.parameters(), peak, steps)
    with torch.no_grad():
        first = best = float(_loss(model, held))
    best_state = {name: value.detach().clone() for name, value in model.state_dict().items()}
    waited, loss_sum, loss_count, taken = 0, 0.0, 0, 0
    for step in range(1, steps + 1):
        loss = _loss(model, windows.draw(batch_size))
        loss.backward()
        optimizer.step()
        taken, loss_sum, loss_count = step, loss_sum + float(loss.detach()), loss_count + 1
        if step % _CHECK_EVERY and step != steps:
            continue
        with torch.no_grad():
            now = float(_loss(model, held))
        if now < best:
            best, waited = now, 0
            best_state = {name: value.detach().clone() for name, value in model.state_dict().items()}
        else:
            waited += 1
        if progress:
            progress(step / steps, f"step {step} of {steps}, validation loss {now:.4f}")
        if waited >= _PATIENCE:
            break
    model.load_state_dict(best_state)
    return Trained(taken, loss_sum / max(loss_count, 1), best, first)
