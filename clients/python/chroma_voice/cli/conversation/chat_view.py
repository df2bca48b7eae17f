"""What a chat shows: what both said, and on a terminal a line with the state and the level of the microphone."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from chroma_voice.cli.conversation.reply_view import printable
from chroma_voice.events import TurnDone

_METER_CELLS = 24
_REDRAWS_PER_S = 12


class ChatView:
    """Shows a conversation. On a terminal it redraws its last lines; elsewhere it only appends text."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = (
            Live(console=console, refresh_per_second=_REDRAWS_PER_S, transient=True) if console.is_terminal else None
        )
        self._state = "listening"
        self._level = 0.0
        self._text = ""

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()
        if self._text:
            self._end_line()

    def say(self, line: str) -> None:
        """Print a line of its own."""
        if self._text and not self._live:
            self._end_line()
        self._console.print(printable(line), markup=False)

    def set_state(self, state: str) -> None:
        """Show what the conversation is doing."""
        self._state = state
        self._redraw()

    def show_level(self, level: float) -> None:
        """Show how loud the microphone is, from 0 to 1."""
        self._level = level
        self._redraw()

    def begin_reply(self) -> None:
        """Begin a new reply."""
        if self._text:
            self._end_line()

    def add_text(self, piece: str) -> None:
        """Show another piece of the reply."""
        first, self._text = not self._text, self._text + printable(piece)
        if self._live:
            self._redraw()
        else:
            self._console.print(f"Chroma: {printable(piece)}" if first else printable(piece), end="", markup=False)

    def end_reply(self, done: TurnDone) -> None:
        """Print the reply as a line of its own, and what went wrong with it."""
        if self._text:
            self._end_line(" [interrupted]" if done.outcome == "interrupted" else "")
        if done.error is not None:
            self.say(f"error ({done.error.status}): {done.error.message}")
        if done.out_of_domain:
            self.say(OUT_OF_DOMAIN)
        self.set_state("listening")

    def _end_line(self, mark: str = "") -> None:
        text, self._text = self._text, ""
        if self._live:
            self._console.print(f"Chroma: {text}{mark}", markup=False)
        else:
            self._console.print(mark, markup=False)

    def _redraw(self) -> None:
        if self._live:
            bar = "█" * round(self._level * _METER_CELLS)
            status = Text(f"{bar:<{_METER_CELLS}} {self._state}", style="dim")
            reply = Text(f"Chroma: {self._text}") if self._text else None
            self._live.update(Group(*filter(None, (reply, status))))


OUT_OF_DOMAIN = "note: the checkpoint says that it cannot say this text; the speech is probably wrong"
