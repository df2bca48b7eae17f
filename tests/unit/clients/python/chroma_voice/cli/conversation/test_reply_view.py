from __future__ import annotations

import io

from rich.console import Console

from chroma_voice.cli.conversation.reply_view import ReplyView


def test_off_a_terminal_the_text_is_appended_and_ends_its_line() -> None:
    written = io.StringIO()
    with ReplyView(Console(file=written)) as view:
        view.add_text("Fold ")
        assert written.getvalue() == "Fold "
        view.add_sound(0.08)
        view.add_text("[bold]it")
    assert written.getvalue() == "Fold [bold]it\n"


def test_without_text_nothing_is_written_off_a_terminal() -> None:
    written = io.StringIO()
    with ReplyView(Console(file=written)) as view:
        view.add_sound(0.08)
    assert written.getvalue() == ""


def test_control_characters_do_not_reach_the_terminal() -> None:
    written = io.StringIO()
    with ReplyView(Console(file=written)) as view:
        view.add_text("a\x1b[31mb\nc")
    assert written.getvalue() == "a·[31mb\nc\n"


def test_a_terminal_shows_the_text_and_the_seconds_of_sound() -> None:
    written = io.StringIO()
    with ReplyView(Console(file=written, force_terminal=True, width=80, _environ={"TERM": "xterm"})) as view:
        view.add_text("Fold it.")
        view.add_sound(0.08)
        view.add_sound(0.08)
    assert "Fold it." in written.getvalue()
    assert "0.16 s of sound" in written.getvalue()
