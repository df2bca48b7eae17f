"""Forced text, tokenised while it arrives."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from services.reasoner.model.forced_text import MAX_WAITING_CHARACTERS, ForcedText
from services.runtime.checkpoint.tokenizer import Tokenizer
from tests.support.golden_cases import SPECIAL_IDS

IM_END = SPECIAL_IDS["<|im_end|>"]

TEXTS = st.text(alphabet=st.characters(exclude_categories=["Cs", "Co"]), max_size=30).filter(
    lambda text: "<|" not in text
)


@given(text=TEXTS, cuts=st.lists(st.integers(0, 30), max_size=6))
def test_forced_text_in_pieces_has_the_ids_of_the_whole(text: str, cuts: list[int], tokenizer: Tokenizer) -> None:
    reply = ForcedText(tokenizer, IM_END)
    edges = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    ids = [i for start, stop in itertools.pairwise(edges) for i in reply.push(text[start:stop])]
    assert [*ids, *reply.finish()] == [*tokenizer.encode(text), IM_END]


def test_forced_text_speaks_finished_words_at_once(tokenizer: Tokenizer) -> None:
    reply = ForcedText(tokenizer, IM_END)
    assert tokenizer.decode(reply.push("Good morning to y")) == "Good morning to"
    assert tokenizer.decode(reply.push("ou. I")) == " you"
    assert tokenizer.decode(reply.finish()) == ". I"


def test_forced_text_without_a_cut_does_not_wait_for_ever(tokenizer: Tokenizer) -> None:
    reply = ForcedText(tokenizer, IM_END)
    assert reply.push("7" * MAX_WAITING_CHARACTERS) == []
    assert len(reply.push("7")) == MAX_WAITING_CHARACTERS + 1
