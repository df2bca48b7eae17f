"""The thinker's own methods: the greedy choice, and prompts that begin in the KV cache."""

from __future__ import annotations

import torch

from services.reasoner.model.thinker import Thinker


def test_the_choice_is_the_likeliest_token_of_each_hidden_state(golden_thinker: Thinker) -> None:
    hidden = torch.randn(5, golden_thinker.config.width, generator=torch.Generator().manual_seed(3))
    expected = golden_thinker.head(hidden).argmax(dim=-1).tolist()
    assert golden_thinker.choose(hidden) == expected
    assert [golden_thinker.choose(row[None])[0] for row in hidden] == expected


def test_every_new_prompt_is_empty_and_knows_what_is_cached(golden_thinker: Thinker) -> None:
    first, second = golden_thinker.new_prompt(), golden_thinker.new_prompt(cached=12)
    assert first is not second
    assert (first.cached, second.cached) == (0, 12)
