"""Speech as letters."""

from __future__ import annotations

import torch
from torch.optim import Adam

from train.hearing.auxiliary_tasks import LETTERS, SpellingHead, spell


def test_a_sentence_is_spelt_as_it_sounds() -> None:
    assert "".join(LETTERS[int(letter) - 1] for letter in spell("What's new, Tom?")) == "what's new tom"
    assert spell("").shape == (0,)


def test_loss_falls_to_nothing_when_the_rows_tell_the_letters() -> None:
    torch.manual_seed(0)
    head = SpellingHead(16)
    heard, letters = torch.randn(19, 16), torch.cat([spell("abca"), spell("")])
    rows, counts = torch.tensor([12, 7]), torch.tensor([4, 0])
    optimizer = Adam(head.parameters(), lr=0.05)
    losses = []
    for _ in range(80):
        loss = head(heard, rows, letters, counts)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.05 < 1.0 < losses[0]
