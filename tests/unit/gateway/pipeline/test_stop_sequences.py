"""Stop sequences: a reply ends before the first one, however its text is divided into thoughts."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chroma.v1.reasoner_pb2 import Thought
from gateway.pipeline.stop_sequences import StopSequences


def test_of_thoughts_that_come_together_those_before_the_sequence_pass() -> None:
    stop = StopSequences(["day"])
    thoughts = [Thought(index=index, text=text) for index, text in enumerate(("Good ", "d", "ay", " day"))]
    assert [it.text for it in stop.push_all(thoughts)] == ["Good "]
    assert stop.is_found
    assert stop.cut is None


def _run(pieces: Sequence[str], *sequences: str) -> tuple[list[str], str, bool]:
    """The texts of the thoughts that pass, the text of the cut one, and whether a sequence was found."""
    stop = StopSequences(sequences)
    passed: list[str] = []
    for index, text in enumerate((*pieces, "")):
        passed += [it.text for it in stop.push(Thought(index=index, text=text, last=index == len(pieces)))]
        if stop.is_found:
            break
    return passed, stop.cut.text if stop.cut else "", stop.is_found


@pytest.mark.parametrize(
    ("pieces", "sequences", "passed", "cut"),
    [
        (["Hello", ", ", "world"], [", "], ["Hello"], ""),
        (["Hello", ", ", "world"], ["llo"], [], "He"),
        (["Hello", ", ", "world"], ["o, w"], [], "Hell"),
        (["Hello", ", ", "world"], ["world", "o, "], [], "Hell"),
        (["a", "\n", "\n", "b"], ["\n\n"], ["a"], ""),
        (["stop"], ["stop"], [], ""),
    ],
)
def test_the_reply_ends_before_the_first_sequence(
    pieces: list[str], sequences: list[str], passed: list[str], cut: str
) -> None:
    assert _run(pieces, *sequences) == (passed, cut, True)


def test_a_text_that_only_began_like_a_sequence_passes_whole() -> None:
    assert _run(["a", "\n", "b", "\n"], "\n\n", "") == (["a", "\n", "b", "\n", ""], "", False)


def test_without_sequences_every_thought_passes_at_once() -> None:
    stop = StopSequences(())
    for text in ("a", "b"):
        assert [it.text for it in stop.push(Thought(text=text))] == [text]


@given(st.lists(st.text("ab", max_size=3), max_size=8), st.lists(st.text("ab", min_size=1, max_size=4), max_size=3))
def test_what_passes_is_the_text_up_to_the_first_sequence(pieces: list[str], sequences: list[str]) -> None:
    text = "".join(pieces)
    starts = [text.index(sequence) for sequence in sequences if sequence in text]
    passed, cut, found = _run(pieces, *sequences)
    assert found == bool(starts)
    # A sequence that ends first is found first, even if a longer one began before it.
    assert text.startswith("".join(passed) + cut)
    assert not any(sequence in "".join(passed) + cut for sequence in sequences)
    if not starts:
        assert "".join(passed) == text
