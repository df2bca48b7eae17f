"""What a chat shows: what both said, and on a terminal a line with the state and the level of the microphone."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from chroma_voice.cli.conversation.live_view import LiveView, printable
from chroma_voice.events import TurnDone

_METER_CELLS = 24


class ChatView(LiveView):
    """Shows a conversation."""

    def __init__(self, console: Console) -> None:
        super().__init__(console, transient=True)
        self._state = "listening"
        self._level = 0.0
        self._text = ""

    def say(self, line: str) -> None:
        """Print a line of its own."""
        if self._text and not self.redraws:
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
        self._redraw()
        if not self.redraws:
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
        if self.redraws:
            self._console.print(f"Chroma: {text}{mark}", markup=False)
        else:
            self._console.print(mark, markup=False)

    def _lines(self) -> list[Text]:
        bar = "█" * round(self._level * _METER_CELLS)
        status = Text(f"{bar:<{_METER_CELLS}} {self._state}", style="dim")
        return [Text(f"Chroma: {self._text}"), status] if self._text else [status]

    def _end(self) -> None:
        if self._text:
            self._end_line()


OUT_OF_DOMAIN = "note: the checkpoint says that it cannot say this text; the speech is probably wrong"
