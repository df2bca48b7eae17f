"""The view of a reply: its text, and on a terminal a line with the seconds of sound."""

from __future__ import annotations

import time

from rich.console import Console
from rich.text import Text

from chroma_voice.cli.conversation.live_view import LiveView, printable


class ReplyView(LiveView):
    """Shows one reply while it is made."""

    def __init__(self, console: Console) -> None:
        super().__init__(console, transient=False)
        self._text = ""
        self._sound_s = 0.0
        self._started = time.monotonic()

    def add_text(self, piece: str) -> None:
        """Show another piece of the reply's text."""
        self._text += printable(piece)
        self._redraw()
        if not self.redraws:
            self._console.print(printable(piece), end="", markup=False)

    def add_sound(self, seconds: float) -> None:
        """Count `seconds` more of sound."""
        self._sound_s += seconds
        self._redraw()

    def _lines(self) -> list[Text]:
        elapsed_s = time.monotonic() - self._started
        progress = f"{self._sound_s:6.2f} s of sound after {elapsed_s:.2f} s"
        return [Text(self._text), Text(progress, style="cyan")]

    def _end(self) -> None:
        if self._text and not self.redraws:
            self._console.print()
