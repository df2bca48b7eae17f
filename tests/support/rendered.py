"""Rendered prompts as token ids, for the tests."""

from __future__ import annotations

from services.runtime.checkpoint.tokenizer import Tokenizer


def encode_rendered(tokenizer: Tokenizer, text: str) -> list[int]:
    """The ids of a trusted, rendered prompt. The spelling of a control token becomes its id."""
    ids: list[int] = []
    for part in tokenizer.split_special(text):
        ids += tokenizer.encode(part) if isinstance(part, str) else [part]
    return ids
