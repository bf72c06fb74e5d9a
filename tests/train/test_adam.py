"""Our Adam against torch's, step by step."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
from outliers.train.adam import OneCycleAdam  # noqa: E402

pytestmark = pytest.mark.trainer


@pytest.mark.parametrize("steps", [7, 50, 300])
def test_one_cycle_adam_takes_the_steps_that_torch_takes(steps: int):
    def network() -> torch.nn.Module:
        torch.manual_seed(1)
        return torch.nn.Sequential(torch.nn.Linear(8, 5), torch.nn.GELU(), torch.nn.Linear(5, 2))

    ours, theirs = network(), network()
    optimizer = OneCycleAdam(ours.parameters(), 3e-3, steps)
    reference = torch.optim.Adam(theirs.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(reference, max_lr=3e-3, total_steps=steps)
    inputs = torch.randn(steps, 16, 8)
    for x in inputs:
        (ours(x) ** 2).mean().backward()
        optimizer.step()
        reference.zero_grad()
        (theirs(x) ** 2).mean().backward()
        reference.step()
        schedule.step()
    for a, b in zip(ours.parameters(), theirs.parameters()):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
    assert {name: value.shape for name, value in ours.state_dict().items()} == {
        name: value.shape for name, value in theirs.state_dict().items()
    }


def test_loading_a_state_is_seen_by_the_next_step():
    model = torch.nn.Linear(3, 1)
    optimizer = OneCycleAdam(model.parameters(), 1e-2, 10)
    model.load_state_dict({"weight": torch.ones(1, 3), "bias": torch.zeros(1)})
    assert optimizer.values[:3].tolist() == [1, 1, 1]
