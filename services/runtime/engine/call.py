"""A function that an event loop lets the engine thread run."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Generic, TypeVar

from services.runtime.engine.failures import ending_error

log = logging.getLogger(__name__)

ResultT = TypeVar("ResultT")


class Call(Generic[ResultT]):
    """One call: the function, and a future of the event loop that made it.

    `make` and `end` are for the engine thread. The future may be cancelled; then the result is dropped.
    """

    def __init__(self, function: Callable[[], ResultT]) -> None:
        self._function = function
        self._loop = asyncio.get_running_loop()
        self.result: asyncio.Future[ResultT] = self._loop.create_future()

    def make(self) -> None:
        """Run the function and hand its result, or the error that it raised, to the caller."""
        try:
            result = self._function()
        except Exception as error:
            log.exception("a call of the engine failed")
            self.end(ending_error("call", error))
        else:
            self._settle(lambda: self.result.set_result(result))

    def end(self, error: BaseException) -> None:
        """Hand an error to the caller."""
        self._settle(lambda: self.result.set_exception(error))

    def _settle(self, settle: Callable[[], None]) -> None:
        try:
            self._loop.call_soon_threadsafe(lambda: None if self.result.done() else settle())
        except RuntimeError:  # the caller's event loop is closed
            return
