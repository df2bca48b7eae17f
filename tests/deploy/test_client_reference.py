"""docs/client.md is up to date and describes all that the client offers."""

from __future__ import annotations

import chroma_voice
from deploy.monitoring import client_reference
from tests.support.paths import ROOT


def test_the_page_is_up_to_date() -> None:
    assert (ROOT / client_reference.PAGE).read_text() == client_reference.page(), "run: make generated"


def test_every_public_name_is_described() -> None:
    assert client_reference.described() == set(chroma_voice.__all__)


def test_methods_have_their_arguments_and_sentences() -> None:
    page = client_reference.page()
    assert "- **`async cancel(*, played_s: float | None = None) -> None`** Interrupt the running reply" in page
    assert "TurnDone(turn_id: str, outcome: Outcome" in page
    assert "from_proto" not in page
