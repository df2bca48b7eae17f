"""The view of a reply: its text, and on a terminal a line with the seconds of sound."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text


class ReplyView:
    """Shows one reply while it is made. On a terminal it redraws its lines; elsewhere it appends the text."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._text = ""
        self._sound_s = 0.0
        self._started = time.monotonic()
        self._live = Live(console=console, refresh_per_second=12) if console.is_terminal else None

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()
        elif self._text:
            self._console.print()

    def add_text(self, piece: str) -> None:
        """Show another piece of the reply's text."""
        self._text += printable(piece)
        if self._live:
            self._redraw()
        else:
            self._console.print(printable(piece), end="", markup=False)

    def add_sound(self, seconds: float) -> None:
        """Count `seconds` more of sound."""
        self._sound_s += seconds
        if self._live:
            self._redraw()

    def _redraw(self) -> None:
        elapsed_s = time.monotonic() - self._started
        progress = f"{self._sound_s:6.2f} s of sound after {elapsed_s:.2f} s"
        if self._live:
            self._live.update(Group(Text(self._text), Text(progress, style="cyan")))


def printable(text: str) -> str:
    """The text with dots in place of letters that a terminal does not print, but with its line breaks."""
    return "".join(letter if letter.isprintable() or letter == "\n" else "·" for letter in text)
