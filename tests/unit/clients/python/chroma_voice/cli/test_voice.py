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
