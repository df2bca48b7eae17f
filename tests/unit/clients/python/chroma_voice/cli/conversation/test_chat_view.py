from __future__ import annotations

import io

from rich.console import Console

from chroma_voice.cli.conversation.chat_view import ChatView


def shown(*, terminal: bool) -> str:
    output = io.StringIO()
    with ChatView(Console(file=output, force_terminal=terminal, width=80)) as view:
        view.say("session s1")
        view.set_state("hearing you")
        view.show_level(0.5)
        view.begin_reply()
        view.add_text("Fold ")
        view.add_text("\x1b[31mit.")
        view.say("You: How?")
    return output.getvalue()


def test_a_pipe_gets_lines_without_a_meter() -> None:
    assert shown(terminal=False).splitlines() == ["session s1", "Chroma: Fold ·[31mit.", "You: How?"]


def test_a_terminal_gets_a_meter_and_the_state() -> None:
    output = shown(terminal=True)
    assert "█" in output
    assert "hearing you" in output
    assert "Chroma: Fold ·[31mit." in output
