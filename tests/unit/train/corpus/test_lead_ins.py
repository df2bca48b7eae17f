"""Lead-ins suit the phrasing after them."""

from __future__ import annotations

from tests.support.small_domain import DOMAIN
from train.corpus.domain import Domain, load_domain
from train.corpus.lead_ins import with_lead_ins
from train.corpus.patterns import plain


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
