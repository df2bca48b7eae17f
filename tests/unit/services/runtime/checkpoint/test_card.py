from __future__ import annotations

import json
from pathlib import Path

import pytest

from services.common.errors import CheckpointError
from services.runtime.checkpoint.card import CARD_FILE, Card, read_card
from tests.support.paths import ROOT


def test_a_folder_without_a_card_has_none(tmp_path: Path) -> None:
    assert read_card(tmp_path) is None


def test_the_fields_of_a_card_are_read_and_unknown_ones_ignored(tmp_path: Path) -> None:
    (tmp_path / CARD_FILE).write_text(json.dumps({"summary": "Small.", "examples": ["Why?"], "later": 1}))
    assert read_card(tmp_path) == Card(summary="Small.", examples=["Why?"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"summary": 5}, "summary: Input should be a valid string"),
        ({"examples": ["why", ""]}, "examples.1: String should have at least 1 character"),
        ({"topics": "cooking"}, "topics: Input should be a valid list"),
        ({"voices": "a" * 501}, "voices: String should have at most 500 characters"),
    ],
)
def test_a_malformed_card_is_refused_in_one_sentence(tmp_path: Path, content: object, message: str) -> None:
    (tmp_path / CARD_FILE).write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=f"card.json: {message}"):
        read_card(tmp_path)


def test_the_demonstration_has_a_card_that_says_that_it_does_not_clone() -> None:
    card = read_card(ROOT / "models" / "chroma-nano")
    assert card is not None
    assert len(card.examples) >= 4
    assert "does not clone" in card.voices
    assert card.preview
