from __future__ import annotations

import io

import pytest
from rich.console import Console
from rich.text import Text

from chroma_voice.cli.conversation.live_view import LiveView, printable


class Counter(LiveView):
    """Draws a number, and writes the last one when it ends."""

    number = 0

    def count(self) -> None:
        self.number += 1
        self._redraw()

    def _lines(self) -> list[Text]:
        return [Text(f"now {self.number}")]

    def _end(self) -> None:
        self._console.print(f"at the end {self.number}", highlight=False)


@pytest.mark.parametrize(
    ("is_terminal", "transient", "drawn"), [(True, True, True), (True, False, True), (False, True, False)]
)
def test_lines_are_drawn_on_a_terminal_only_and_the_end_is_written_everywhere(
    is_terminal: bool, transient: bool, drawn: bool
) -> None:
    written = io.StringIO()
    console = Console(file=written, force_terminal=is_terminal, width=80, _environ={"TERM": "xterm"})
    with Counter(console, transient=transient) as view:
        view.count()
        view.count()
        assert view.redraws == is_terminal
    assert ("now 2" in written.getvalue()) == drawn
    assert written.getvalue().endswith("at the end 2\n")


def test_a_view_ends_when_its_block_fails() -> None:
    written = io.StringIO()
    with pytest.raises(ZeroDivisionError), Counter(Console(file=written), transient=True):
        raise ZeroDivisionError
    assert written.getvalue() == "at the end 0\n"


def test_what_a_terminal_would_obey_becomes_a_dot() -> None:
    assert printable("a\x1b[31m\nb\u202e") == "a·[31m\nb·"
