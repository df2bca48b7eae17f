from __future__ import annotations

from pathlib import Path

from chroma_voice.errors import AlreadyExists, NotFound
from tests.support.fake_gateway import FakeGateway
from tests.support.gateway_commands import run

ANN = ("--transcript", "Beep.", "--consent", "Ann, in writing")


def test_a_voice_is_added_listed_shown_and_removed(gateway: FakeGateway, question: Path) -> None:
    assert "enrolled voice ann" in run(gateway, "voice", "add", "ann", question, *ANN).output
    listed = run(gateway, "voice", "list").output
    assert "ann" in listed
    assert "reader" in listed
    shown = run(gateway, "voice", "show", "ann").output
    assert "Beep." in shown
    assert "Ann, in writing" in shown
    assert "removed voice ann" in run(gateway, "voice", "remove", "ann").output
    assert isinstance(run(gateway, "voice", "show", "ann").exception, NotFound)


def test_a_voice_that_exists_is_replaced_only_when_asked(gateway: FakeGateway, question: Path) -> None:
    add = ("voice", "add", "reader", question, *ANN)
    assert isinstance(run(gateway, *add).exception, AlreadyExists)
    assert run(gateway, *add, "--replace", "--name", "Ann").exit_code == 0
    assert gateway.voices["reader"].display_name == "Ann"


def test_a_list_without_voices_says_how_to_add_one(gateway: FakeGateway) -> None:
    gateway.voices.clear()
    assert "chroma-voice voice add" in run(gateway, "voice", "list").output


def test_consents_are_listed_and_revoked_with_their_voices(gateway: FakeGateway, question: Path) -> None:
    assert "no consents yet" in run(gateway, "voice", "consents").output
    for name in ("ann", "bob", "cy"):
        run(gateway, "voice", "add", name, question, *ANN, "--consent-subject", name.title())
    assert "consent-1" in run(gateway, "voice", "show", "bob").output
    assert "bob" in run(gateway, "voice", "revoke", "consent-1").output
    assert "bob" not in gateway.voices
    listed = run(gateway, "voice", "consents").output
    for text in ("consent-0", "consent-2", "bob (deleted)", "2023-11-14"):
        assert text in listed
    assert isinstance(run(gateway, "voice", "revoke", "consent-9").exception, NotFound)
