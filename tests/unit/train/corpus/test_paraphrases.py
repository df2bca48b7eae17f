"""Paraphrases are read from patterns, filtered and drawn at random."""

from __future__ import annotations

import lzma
import random
import re
from pathlib import Path

import pytest

from services.runtime.checkpoint.checkpoint import Checkpoint
from services.runtime.checkpoint.tokenizer import Tokenizer
from train.corpus.domain import load_domain
from train.corpus.paraphrases import Paraphrases, read_paraphrases
from train.corpus.patterns import plain
from train.corpus.vocabulary import nano_tokenizer

FILE = """
[intents]
tea = ["(make|brew) tea", "a cup of tea"]

[outside]
patterns = ["who won"]

[repeat]
patterns = ["once more [please]"]

[[families]]
patterns = ["capital of {0}", "{0}"]
intents = { italy = [["Italy"]], spain = [["Spain"]] }
outside = [["Peru"], ["Chad"]]
"""


def read(
    tmp_path: Path, text: str = FILE, known: dict[str, str] | None = None, held_out: tuple[str, ...] = ()
) -> Paraphrases:
    (tmp_path / "paraphrases.toml.xz").write_bytes(lzma.compress(text.encode()))
    return read_paraphrases(tmp_path / "paraphrases.toml.xz", known or {}, frozenset(held_out))


def test_own_patterns_and_those_of_families_are_read(tmp_path: Path) -> None:
    found: dict[str, set[str]] = {}
    for subject, phrasing in read(tmp_path):
        found.setdefault(subject, set()).add(phrasing)
    assert found == {
        "tea": {"make tea", "brew tea", "a cup of tea"},
        "outside": {"who won", "capital of Peru", "capital of Chad", "Peru", "Chad"},
        "repeat": {"once more", "once more please"},
        "italy": {"capital of Italy", "Italy"},
        "spain": {"capital of Spain", "Spain"},
    }


def test_a_paraphrase_that_sounds_like_a_held_out_phrasing_is_left_out(tmp_path: Path) -> None:
    kept = read(tmp_path, held_out=("capital of spain", "brew tea"))
    assert {phrasing for subject, phrasing in kept if subject in ("spain", "tea")} == {
        "Spain",
        "make tea",
        "a cup of tea",
    }


def test_a_near_miss_that_an_intent_has_is_not_outside(tmp_path: Path) -> None:
    kept = read(tmp_path, FILE.replace('"who won"', '"(brew|pour) tea"'), {"capital of peru": "peru"})
    assert {phrasing for subject, phrasing in kept if subject == "outside"} == {
        "pour tea",
        "capital of Chad",
        "Peru",
        "Chad",
    }


@pytest.mark.parametrize(
    ("text", "known"),
    [
        (FILE.replace('"a cup of tea"', '"capital of Italy"'), {}),
        (FILE, {"capital of italy": "tea"}),
        (FILE, {"once more": "tea"}),
    ],
)
def test_a_phrasing_of_two_subjects_is_refused(tmp_path: Path, text: str, known: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"paraphrases\.toml\.xz: .* stands for .* and for"):
        read(tmp_path, text, known)


def test_a_pattern_with_many_phrasings_is_not_drawn_more_often() -> None:
    many = tuple(f"tea {number}" for number in range(1_000))
    paraphrases = Paraphrases({"tea": ((many, ("a cup",)),)})
    dice = random.Random(0)
    drawn = [paraphrases.draw("tea", dice) for _ in range(400)]
    assert 150 < drawn.count("a cup") < 250
    assert paraphrases.draw("coffee", dice) is None


def test_some_gives_different_phrasings_and_at_most_all() -> None:
    paraphrases = Paraphrases({"tea": ((("one", "two"), ("three",)),)})
    assert sorted(paraphrases.some("tea", 50, random.Random(0))) == ["one", "three", "two"]
    assert len(paraphrases.some("tea", 2, random.Random(0))) == 2
    assert paraphrases.some("coffee", 2, random.Random(0)) == []


def test_every_intent_of_the_domain_has_paraphrases_in_plain_letters() -> None:
    domain = load_domain()
    counts = dict.fromkeys(domain.paraphrases.by_subject, 0)
    for subject, phrasing in domain.paraphrases:
        assert re.fullmatch(r"[A-Za-z][A-Za-z' ,]*", phrasing), phrasing
        counts[subject] += 1
    assert counts.keys() == {intent.name for intent in domain.intents} | {"outside", "repeat"}
    assert min(counts.values()) >= 40


def test_no_paraphrase_sounds_like_a_held_out_phrasing() -> None:
    domain = load_domain()
    held_out = {plain(phrasing) for intent in domain.intents for phrasing in intent.held_out}
    held_out |= {plain(phrasing) for phrasing in (*domain.outside_held_out, *domain.repeat_held_out)}
    assert not held_out & {plain(phrasing) for _, phrasing in domain.paraphrases}


def test_paraphrases_leave_the_vocabulary_as_it_is() -> None:
    """The committed checkpoint's speech model knows the numbers of its tokens."""
    committed, today = Tokenizer.from_checkpoint(Checkpoint.open("models/chroma-nano")), nano_tokenizer()
    for sentence in load_domain().replies:
        assert committed.encode(sentence) == today.encode(sentence)
