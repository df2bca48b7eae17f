"""The status that a server gave a streaming call, also when a write met the end of the call."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, TypeVar

import grpc
from grpc import aio

ResultT = TypeVar("ResultT")

WROTE_TO_ENDED_CALL = "Internal error from Core"
"""Details of the INTERNAL status with which grpcio's asyncio client then replaces the server's (grpc/grpc#36066)."""


class FirstStatus:
    """The first status of `call`, which is the server's. Make it when the call starts.

    grpcio tells a callback of the server's status before a write that meets the end of the call replaces it.
    """

    def __init__(self, call: aio.Call) -> None:
        self._status: tuple[grpc.StatusCode, aio.AioRpcError] | None = None
        call.add_done_callback(self._keep)

    def error(self, replaced: aio.AioRpcError) -> aio.AioRpcError | None:
        """Return the server's error in place of `replaced`; None if the server ended the call without an error."""
        if self._status is None or replaced.details() != WROTE_TO_ENDED_CALL:
            return replaced
        code, first = self._status
        return None if code is grpc.StatusCode.OK else first

    def _keep(self, call: Any) -> None:
        if self._status is None:
            code, details = _result_of(call.code()), _result_of(call.details())
            initial, trailing = _result_of(call.initial_metadata()), _result_of(call.trailing_metadata())
            self._status = code, aio.AioRpcError(code, initial, trailing, details)


def _result_of(ended: Coroutine[Any, Any, ResultT]) -> ResultT:
    """Return the result of a coroutine that waits for nothing, as those of an ended call do."""
    try:
        ended.send(None)
    except StopIteration as result:
        return result.value
    raise RuntimeError("expected a call that has ended")
