"""Failures of an engine's phases: what the log and the streams are told, and when the engine gives up."""

from __future__ import annotations

import logging

from services.common.errors import ChromaError, Unavailable

log = logging.getLogger(__name__)

MAX_FAILURES_IN_A_ROW = 5
"""Failed phases without a successful step between them after which the engine gives up. A device in a broken state
fails every step; a single bad request fails one."""

_NO_MEMORY = ("can't allocate memory", "could not create a primitive", "bad_alloc")
"""Parts of PyTorch's and oneDNN's messages when the host has no memory left."""


class EngineStopped(Unavailable):
    """The engine has ended: no stream can be opened, and open ones end with this error."""


class PhaseFailed(ChromaError):
    """A phase of the engine raised an unexpected error, which ended this stream. The log has the traceback."""


class NotFinite(ChromaError):
    """The model's values of one stream overflowed or are not numbers. It ends this stream only."""


def ending_error(phase: str, error: Exception) -> ChromaError:
    """The error that a stream ends with after `error` in `phase`.

    A domain error stays as it is. Without memory the engine stops, so its streams end with `EngineStopped`. Another
    error becomes `PhaseFailed` without its text, which may name paths.
    """
    if isinstance(error, ChromaError):
        return error
    if lacks_memory(error):
        return EngineStopped("the engine has stopped: the host's memory is full")
    return PhaseFailed(f"the engine's phase `{phase}` failed: {type(error).__name__}")


def lacks_memory(error: Exception) -> bool:
    """Whether the host has no memory left. An accelerator's full memory is another error."""
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(text in str(error) for text in _NO_MEMORY)
    )


class Failures:
    """The failures of one engine. Used by the engine thread; other threads may read `fatal`."""

    def __init__(self) -> None:
        self.fatal: str | None = None
        """Why the engine gives up; None while it goes on."""
        self.slots_lost = False
        """Whether a release failed, so that its slot may never be free again."""
        self._in_a_row = 0
        self._reported: set[str] = set()

    def in_phase(self, phase: str, error: Exception, streams: int) -> None:
        """Count and log a failed phase that ends `streams` streams.

        Full memory is fatal at once: oneDNN refuses a shape whose kernel it could not make once for as long as the
        process lives, so that some requests would fail for ever and others would not.
        """
        if lacks_memory(error):
            self.fatal = f"the host's memory is full in `{phase}`"
        self._in_a_row += 1
        if self._in_a_row >= MAX_FAILURES_IN_A_ROW:
            self.fatal = f"{MAX_FAILURES_IN_A_ROW} failures in a row without a successful step, the last in `{phase}`"
        log.error("the engine's phase `%s` failed; %d streams end with it", phase, streams, exc_info=error)

    def in_release(self) -> None:
        """Note that a slot may be lost."""
        self.slots_lost = True

    def in_measurement(self, what: str, error: Exception) -> None:
        """Log a failure that ends no stream, once for each `what`: it may come back at every step."""
        if what not in self._reported:
            self._reported.add(what)
            log.error("the engine's phase `%s` failed; the engine goes on unmeasured", what, exc_info=error)

    def no_slot_left(self) -> None:
        """Give up because lost slots leave none for any stream."""
        self.fatal = "no slot is free although no stream is live: failed releases lost them"

    def end_of_thread(self, error: BaseException) -> None:
        """Give up because the engine's own code raised."""
        log.exception("the engine thread failed")
        self.fatal = f"{type(error).__name__} in its thread"

    def step_succeeded(self) -> None:
        """Start to count failures in a row from zero again."""
        self._in_a_row = 0
