"""The calls of one turn: their common deadline, and the read timeouts of the stages that owe a response."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from gateway.pipeline.calls import ResponseStream, fed_call
from gateway.pipeline.turn_input import TurnInput
from gateway.pipeline.upstreams import Upstream
from services.common.errors import DeadlineExceeded
from services.common.telemetry.tracing import SpanKind, trace

_GRACE_S = 1.0
"""A call's own deadline is this much later than the turn's, so that the turn's error names the limit."""


class TurnCalls:
    """Opens the calls of one turn, which ends at most `limit_s` after its first input.

    The read timeout of an upstream runs while its call owes a response.
    """

    def __init__(self, source: TurnInput, limit_s: float) -> None:
        self._input_complete = source.complete
        self._limit_s = limit_s
        self._ends_s = source.began_s + limit_s
        self._responses: list[ResponseStream[Any]] = []

    @asynccontextmanager
    async def time_limit(self) -> AsyncIterator[None]:
        """Cancel the body when the turn's time is over. Raises DeadlineExceeded then."""
        try:
            async with asyncio.timeout(self._ends_s - time.monotonic()):
                yield
        except TimeoutError:
            limit = f"CHROMA_TURN_LIMIT_S is {self._limit_s:g} s, from the first input to the end of the speech"
            raise DeadlineExceeded(f"the turn took too long: {limit}") from None

    async def follow_input(self) -> None:
        """Wait until the input is complete: from then on the reasoner owes its thoughts."""
        await self._input_complete.wait()
        for responses in self._responses:
            responses.due()

    @asynccontextmanager
    async def open(
        self,
        upstream: Upstream,
        stub: Any,
        method: str,
        requests: AsyncGenerator[Any, None],
        owes: Callable[[], bool],
    ) -> AsyncIterator[ResponseStream[Any]]:
        """Call `method` of a replica's stub, write `requests` to it, and give its responses to the body.

        `owes` tells whether the replica owes a response now.
        """
        rpc = getattr(stub, method)
        limit_s = max(0.0, self._ends_s - time.monotonic()) + _GRACE_S
        with trace(f"{upstream.name}.{method}", SpanKind.CLIENT):
            patience_s = upstream.read_timeout_s
            call = fed_call(upstream.name, rpc, requests, limit_s=limit_s, read_timeout_s=patience_s, owes=owes)
            async with call as responses:
                self._responses.append(responses)
                yield responses
