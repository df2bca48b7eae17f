"""What an engine tells about itself, as plain numbers. Called on the engine thread; must return at once."""

from __future__ import annotations

from typing import Protocol


class EngineObserver(Protocol):
    """Takes an engine's measurements."""

    def admitted(self, waited_s: float) -> None:
        """A stream was admitted, `waited_s` seconds after it arrived."""

    def refused(self, error: BaseException) -> None:
        """A stream was not admitted."""

    def stepped(self, kind: str, width: int, seconds: float) -> None:
        """A step of `width` streams took `seconds`; `kind` as `Runner.describe` names it."""

    def step_failed(self) -> None:
        """A step raised, and its streams ended."""


class NullObserver:
    """An observer that looks away."""

    def admitted(self, waited_s: float) -> None:
        """Nothing."""

    def refused(self, error: BaseException) -> None:
        """Nothing."""

    def stepped(self, kind: str, width: int, seconds: float) -> None:
        """Nothing."""

    def step_failed(self) -> None:
        """Nothing."""
