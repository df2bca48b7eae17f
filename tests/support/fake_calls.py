"""Upstreams whose calls a test answers by hand, without gRPC."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

from grpc import aio

from chroma.v1.checkpoint_pb2 import CheckpointCard
from gateway.pipeline.calls import Hangs
from gateway.text.domain import SpeechDomain
from services.common.errors import ChromaError


class FakeCall:
    """One streaming call: `requests` is what was written, `responses` is what will be read. EOF ends the responses."""

    def __init__(self, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        self.requests: asyncio.Queue[Any] = asyncio.Queue()
        self.responses: asyncio.Queue[Any] = asyncio.Queue()
        self.cancelled = False

    def answer(self, *responses: Any) -> None:
        """Give the reader these responses next."""
        for response in responses:
            self.responses.put_nowait(response)

    def end(self) -> None:
        """End the responses."""
        self.responses.put_nowait(aio.EOF)

    async def write(self, request: Any) -> None:
        self.requests.put_nowait(request)

    async def done_writing(self) -> None:
        self.requests.put_nowait(aio.EOF)

    async def read(self) -> Any:
        response = await self.responses.get()
        if isinstance(response, BaseException):
            raise response
        return response

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        """No call of a test ends while it is written to."""

    def cancel(self) -> None:
        self.cancelled = True
        self.responses.put_nowait(asyncio.CancelledError())


class FakeUpstream:
    """An upstream with one replica, whose stub opens a `FakeCall` for any method."""

    read_timeout_s = 60.0
    limit_s = 60.0

    def __init__(self, name: str) -> None:
        self.name = name
        self.tools = False
        """Whether its chat template renders tools."""
        self.described: CheckpointCard | None = None
        """What its checkpoint says of itself."""
        self.calls: asyncio.Queue[FakeCall] = asyncio.Queue()
        self.keys: list[str] = []
        self.checkpoints: Collection[str] | None = None
        """The replicas to which the last call was bound."""
        self.forgotten: list[Any] = []
        """The requests to forget something."""

    def renders_tools(self) -> bool:
        """As `tools` says."""
        return self.tools

    def positions(self) -> int:
        """The replica does not tell."""
        return 0

    def card(self) -> CheckpointCard | None:
        """As the attribute `described` says."""
        return self.described

    def domain(self, checkpoint: str = "") -> SpeechDomain | None:
        """What `described` says that the checkpoint can say."""
        card = self.described
        return SpeechDomain(card.sentences, card.words) if card and (card.sentences or card.words) else None

    async def call_with_failover(
        self,
        key: str,
        attempt: Callable[[Any], Awaitable[Any]],
        *,
        begun: Callable[[], bool] = lambda: False,
        low_priority: bool = False,
        checkpoints: Collection[str] | None = None,
    ) -> Any:
        """Try again, as with another replica, while an error comes before the call has begun."""
        self.keys.append(key)
        self.checkpoints = checkpoints
        while True:
            try:
                return await attempt(self)
            except ChromaError as error:
                again = "UNAVAILABLE", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "INTERNAL"
                if begun() or isinstance(error, Hangs) or error.status not in again:
                    raise

    def _open(self, *, timeout: float, metadata: Any = None) -> FakeCall:  # as a stub's method
        call = FakeCall(timeout)
        self.calls.put_nowait(call)
        return call

    Think = Speak = Decode = Encode = _open

    def known_checkpoints(self) -> set[str]:
        """The one checkpoint that the replica runs."""
        return {"one"}

    def addresses(self) -> list[str]:
        """The address of the one replica."""
        return [f"{self.name}:1"]

    async def call_at(self, address: str, attempt: Callable[[Any], Awaitable[None]]) -> None:
        """Call the one replica."""
        await attempt(self)

    async def _forget(self, request: Any, **options: Any) -> None:
        self.forgotten.append(request)

    Forget = ForgetVoice = _forget


@dataclass
class FakeUpstreamPool:
    """The three upstreams of a turn."""

    reasoner: FakeUpstream = field(default_factory=lambda: FakeUpstream("reasoner"))
    speech_gen: FakeUpstream = field(default_factory=lambda: FakeUpstream("speech_gen"))
    codec: FakeUpstream = field(default_factory=lambda: FakeUpstream("codec"))
    turn_seat: Callable[[], AbstractAsyncContextManager[None]] = nullcontext

    @property
    def serving(self) -> bool:
        """All three always serve."""
        return True

    def with_seat(self, turn_seat: Callable[[], AbstractAsyncContextManager[None]]) -> FakeUpstreamPool:
        """The same upstreams, with this seat for each turn."""
        return replace(self, turn_seat=turn_seat)

    def shared_checkpoints(self) -> set[str] | None:
        """The three do not say which checkpoints they run."""
        return None
