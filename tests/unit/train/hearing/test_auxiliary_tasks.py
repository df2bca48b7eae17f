"""Letters of a text, and the losses of the auxiliary heads."""

from __future__ import annotations

import torch
from torch.optim import Adam

from train.hearing.auxiliary_tasks import LETTERS, SpellingHead, SubjectHead, spell


def test_a_sentence_is_spelt_as_it_sounds() -> None:
    assert "".join(LETTERS[int(letter) - 1] for letter in spell("What's new, Tom?")) == "what's new tom"
    assert spell("").shape == (0,)


def test_spelling_loss_falls_to_almost_zero() -> None:
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


def test_embeddings_of_other_clips_do_not_change_a_subject() -> None:
    head, rows = SubjectHead(8, 3), torch.randn(9, 8)
    alone = head(rows[:4], torch.tensor([4]))
    together = head(rows, torch.tensor([4, 5]))
    torch.testing.assert_close(together[:1], alone)
