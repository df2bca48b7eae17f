"""Lead-ins suit the phrasing after them."""

from __future__ import annotations

from train.corpus.domain import Domain, Intent, load_domain
from train.corpus.lead_ins import with_lead_ins
from train.corpus.patterns import plain

DOMAIN = Domain(
    intents=(
        Intent("cats", "animals", "Cats sleep all day.", ("what do cats do", "tell me about cats"), ("do cats sleep",)),
        Intent(
            "dogs", "animals", "Dogs like long walks.", ("what do dogs do", "tell me about dogs"), ("do dogs walk",)
        ),
    ),
    outside=("who are you",),
    outside_held_out=("where am I",),
    outside_answer="I only know cats and dogs.",
    greeting="Hello there.",
    repeat=("say that again",),
    repeat_held_out=("once more",),
    prompts=("A quiet street.",),
)


def test_lead_ins_suit_what_follows_and_never_make_a_held_out_phrasing() -> None:
    assert "please tell me what do cats do" in with_lead_ins("what do cats do", DOMAIN)
    assert "could you tell me about cats" in with_lead_ins("tell me about cats", DOMAIN)
    polite = Domain(**{**vars(DOMAIN), "outside_held_out": ("Please tell me about cats!",)})
    assert "please tell me about cats" not in with_lead_ins("tell me about cats", polite)
    real = load_domain()
    held_out = {plain(q) for i in real.intents for q in i.held_out} | set(map(plain, real.outside_held_out))
    led = {plain(text) for i in real.intents for q in i.questions for text in with_lead_ins(q, real)}
    assert led
    assert not led & held_out
