"""What chroma-nano says of itself is what it is trained on."""

from __future__ import annotations

import json

from gateway.text.domain import SpeechDomain
from services.runtime.checkpoint.card import CARD_FILE, read_card
from tests.support.paths import ROOT
from train.corpus.domain import load_domain
from train.pack.card import nano_card


def test_the_committed_card_is_that_of_the_domain() -> None:
    committed = (ROOT / "models/chroma-nano" / CARD_FILE).read_text()
    assert json.loads(committed) == nano_card(load_domain())


def test_every_reply_is_in_the_domain_and_other_sentences_are_not() -> None:
    card = read_card(ROOT / "models/chroma-nano")
    assert card is not None
    speech = SpeechDomain(card.sentences, card.words)
    assert not [reply for reply in load_domain().replies if speech.outside(reply)]
    assert not speech.outside(card.preview)
    assert speech.outside("The quick brown fox jumps over the lazy dog.")
