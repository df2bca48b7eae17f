"""What an engine reports about itself, as plain numbers. Called on the engine thread; a call must return at once."""

from __future__ import annotations

from typing import Protocol


class EngineObserver(Protocol):
    """Takes an engine's measurements. An error that a method raises is logged and ends no stream."""

    def admitted(self, waited_s: float) -> None:
        """A stream was admitted, `waited_s` seconds after it arrived."""

    def refused(self, error: BaseException) -> None:
        """A stream was not admitted."""

    def stepped(self, kind: str, width: int, seconds: float) -> None:
        """A step of `width` streams took `seconds`; `kind` as `Runner.describe` names it."""

    def phase_failed(self, phase: str) -> None:
        """A phase of the engine's loop failed: release, admit, schedule, idle_s, step or deliver."""


class NullObserver:
    """An observer that ignores every measurement."""

    def admitted(self, waited_s: float) -> None:
        """Do nothing."""

    def refused(self, error: BaseException) -> None:
        """Do nothing."""

    def stepped(self, kind: str, width: int, seconds: float) -> None:
        """Do nothing."""

    def phase_failed(self, phase: str) -> None:
        """Do nothing."""
