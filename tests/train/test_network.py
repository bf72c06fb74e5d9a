from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")
import torch

from export.autoencoder import asked_places, patterns, reconstruct
from export.parameters import HIDDEN, STRIDE, WINDOW
from export.torch_ops import TorchOps
from outliers.train import measure, network
from tests.train.models import fitted

pytestmark = pytest.mark.trainer


def stretch(points: int = 2000, metrics: int = 3, granularity: int = 0) -> network.Stretch:
    t = np.arange(points)[:, None]
    g = np.sin(2 * np.pi * t / 24 + np.arange(metrics)).astype(np.float32)
    return network.Stretch(granularity, torch.as_tensor(g), torch.ones(points, metrics))


def test_network_learns_to_reconstruct_what_is_hidden() -> None:
    torch.manual_seed(0)
    model = network.Autoencoder(1, 3)
    told = network.train(model, [stretch()], [stretch(400)], steps=300, batch_size=32, seed=1)
    assert told.validation_loss < 0.1 * told.first_loss


def test_training_is_deterministic_by_seed() -> None:
    losses = []
    for _ in range(2):
        torch.manual_seed(3)
        model = network.Autoencoder(1, 2)
        data = [stretch(600, 2)]
        losses.append(network.train(model, data, data, steps=20, batch_size=16, seed=5).validation_loss)
    assert losses[0] == losses[1]


def test_training_stops_early_and_keeps_the_best_weights() -> None:
    torch.manual_seed(0)
    noise = network.Stretch(0, torch.randn(600, 1), torch.ones(600, 1))
    other = network.Stretch(0, torch.randn(300, 1), torch.ones(300, 1))
    told = network.train(network.Autoencoder(1, 1), [noise], [other], steps=2000, batch_size=16, seed=0)
    assert told.steps < 2000
    assert told.validation_loss <= told.first_loss


def test_windows_never_cross_from_one_granularity_to_another() -> None:
    one = network.Stretch(0, torch.full((100, 1), 1.0), torch.ones(100, 1))
    two = network.Stretch(1, torch.full((100, 1), 2.0), torch.ones(100, 1))
    x, v, asked, owner = network.Windows([one, two], 0, 1).draw(500)
    for i in range(500):
        seen = x[i][(v[i] + asked[i]) > 0]
        assert (seen == float(owner[i] + 1)).all()


def test_nothing_hidden_or_missing_is_shown() -> None:
    holes = torch.ones(200, 2)
    holes[50:80] = 0
    x, v, asked, _ = network.Windows([network.Stretch(0, torch.randn(200, 2) * holes, holes)], 0, 2).draw(300)
    assert not (v * asked).any()
    assert not asked[x == 0].any()


def test_every_place_is_hidden_once_and_read_where_it_is_hidden() -> None:
    shown, places = patterns(), asked_places()
    assert (shown[0].sum(0) == 3).all()  # whole: each place hidden in one of four phases
    for mode in (0, 1):
        for phase in range(4):
            assert not shown[mode, phase][places[mode, phase]].any()
    live = np.stack([places[1, phase][:HIDDEN] for phase in range(4)]).ravel()
    np.testing.assert_array_equal(live, np.arange(STRIDE, WINDOW))


@pytest.mark.parametrize("mode", [0, 1])
def test_serving_reconstructs_as_the_trained_network_does(mode: int) -> None:
    """The graph's windows, cut and masked in one go, against the network on one window at a time."""
    model_of = fitted(3)
    p, m, count = model_of.parameters, 3, 200
    g, seen = torch.randn(count, m), torch.ones(count, m)
    seen[40:43] = 0
    g = g * seen
    nothing = torch.zeros(0)
    c = measure.Chosen(
        index=torch.tensor(0), count=torch.tensor(count), causal=torch.tensor(mode), days=torch.tensor(1.0),
        prior=torch.tensor(1.0), offset=None, center=torch.zeros(1), spread=torch.ones(1), noise=torch.ones(1),
        unit=torch.ones(1), unit_slope=torch.zeros(1),
        span=(nothing, nothing), recent=(nothing, nothing), before=nothing, after=nothing,
        tau=nothing, size=nothing, usual=nothing, limit=nothing, reached=nothing,
    )  # fmt: skip
    served = reconstruct(TorchOps(), p, c, g, seen)
    net = network.Autoencoder(len(p.steps), m)
    net.load_state_dict(dict(model_of.state))
    for t in (0, 5, 17, 41, 100, 199):
        tile, inside = t // STRIDE, t % STRIDE
        told = []
        for start, place in (((tile - 1) * STRIDE, inside + STRIDE), (tile * STRIDE, inside)):
            rows = torch.arange(start, start + WINDOW)
            there = ((rows >= 0) & (rows < count)).float()
            at = rows.clamp(0, count - 1)
            phase = inside // HIDDEN if mode else (inside // 2) % 4
            shown = torch.as_tensor(patterns()[mode, phase])
            x = (g[at] * there[:, None]).T[None]
            v = (seen[at] * there[:, None]).T[None] * shown
            with torch.inference_mode():
                told.append(net(x, v, torch.tensor([0]))[0, :, place])
        weight = (inside + 1) / (STRIDE + 1)
        wanted = told[0] if mode else (1 - weight) * told[0] + weight * told[1]
        np.testing.assert_allclose(served[t].numpy(), wanted.numpy(), rtol=1e-4, atol=1e-5)
