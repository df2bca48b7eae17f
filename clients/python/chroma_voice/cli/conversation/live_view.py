"""A view that redraws its last lines on a terminal, and only appends text elsewhere, such as in a pipe."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

_REDRAWS_PER_S = 12


class LiveView(ABC):
    """The lines that a view draws, from entering it to leaving it.

    Args:
        transient: whether the drawn lines vanish at the end.
    """

    def __init__(self, console: Console, *, transient: bool) -> None:
        self._console = console
        self._live = (
            Live(console=console, refresh_per_second=_REDRAWS_PER_S, transient=transient)
            if console.is_terminal
            else None
        )

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()
        self._end()

    @property
    def redraws(self) -> bool:
        """Whether the lines are drawn again and again."""
        return self._live is not None

    @abstractmethod
    def _lines(self) -> list[Text]:
        """What is drawn."""

    @abstractmethod
    def _end(self) -> None:
        """Write what is left to write."""

    def _redraw(self) -> None:
        if self._live:
            self._live.update(Group(*self._lines()))


def printable(text: str) -> str:
    """The text with dots in place of letters that a terminal does not print, but with its line breaks."""
    return "".join(letter if letter.isprintable() or letter == "\n" else "·" for letter in text)
