"""The stack for training is causal, and padding at the end changes nothing before it."""

from __future__ import annotations

import torch

from train.causal_stack import CausalStack
from train.pack.config import nano


def test_later_rows_do_not_change_the_hidden_states_of_earlier_ones() -> None:
    torch.manual_seed(0)
    config = nano().decoder
    stack = CausalStack(config, torch.arange(12))
    rows = torch.randn(2, 12, config.width)
    changed = torch.cat([rows[:, :7], torch.randn(2, 5, config.width)], dim=1)
    with torch.no_grad():
        hidden, other = stack(rows), stack(changed)
    torch.testing.assert_close(other[:, :7], hidden[:, :7])
    assert not torch.allclose(other[:, 7:], hidden[:, 7:])


def test_rows_at_other_positions_have_other_hidden_states() -> None:
    torch.manual_seed(0)
    config = nano().decoder
    near, far = CausalStack(config, torch.arange(3)), CausalStack(config, torch.tensor([0, 40, 80]))
    far.load_state_dict(near.state_dict())
    rows = torch.randn(1, 3, config.width)
    with torch.no_grad():
        torch.testing.assert_close(near(rows)[:, 0], far(rows)[:, 0])
        assert not torch.allclose(near(rows)[:, 2], far(rows)[:, 2])
