"""The WebRTC calls of one gateway, from the offer to the end of the conversation."""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from gateway.access.caller import Caller
from gateway.api.realtime.events.transport import HungUp, Transport
from gateway.api.realtime.events.wire import EventFactory
from gateway.api.realtime.opening import again, open_connection
from gateway.api.realtime.session.update import SessionIn
from gateway.api.webrtc.addresses import MediaAddresses
from gateway.api.webrtc.offer import Offer
from gateway.conversation.backend import Backend
from gateway.metrics import CALLS, WEBRTC_CALLS
from gateway.processes.worker import Worker
from gateway.tasks import cancel, to_its_end
from services.common.errors import ChromaError, NotFound, ResourceExhausted, Unavailable

log = logging.getLogger(__name__)

_PLAY_OUT_S = 10.0
"""How long the last reply may be played when the gateway ends a call."""
_SAY_S = 1.0
"""How long a client may take to read why its call ends."""


class Line(Transport, Protocol):
    """The gateway's end of a call: `gateway.api.webrtc.peer`, which needs aiortc."""

    async def answer(self) -> str:
        """Return the answer to the offer."""
        ...

    async def connect(self) -> None:
        """Wait until the client has connected. Raises HungUp."""
        ...

    async def played(self) -> None:
        """Wait until the client has heard what was said."""
        ...

    def hang_up(self) -> None:
        """Let the call end."""
        ...

    async def close(self) -> None:
        """End the call, and give back what it holds."""
        ...


@dataclass(frozen=True)
class Asked:
    """What a client asks for: its offer, its first settings, and the query parameters of its request."""

    offer: Offer
    given: SessionIn
    query: Mapping[str, str]
    beta: bool


class Calls:
    """The calls of one gateway. `line` makes the gateway's end of a call."""

    def __init__(
        self,
        backend: Backend,
        draining: asyncio.Event,
        line: Callable[[Offer, MediaAddresses], Line] | None = None,
        closing: asyncio.Event | None = None,
    ) -> None:
        self._backend = backend
        self._draining = draining
        self._closing = closing or draining
        self._line = line or _peer
        self._addresses = MediaAddresses.of(backend.settings)
        self._lines: dict[str, tuple[Line, str]] = {}
        """The calls that are open, with the tenant of each, by id."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._ask_others: Callable[[list[str]], Awaitable[list[bool]]] | None = None
        """Asks the other processes of this gateway to end a call. Returns whether each had it."""

    async def open(self, caller: Caller, asked: Asked) -> tuple[str, str]:
        """Begin a call. Returns its id and the answer to its offer.

        Raises NotFound where the gateway takes no calls, ResourceExhausted when it has as many as it may, Unavailable
        while it drains, and what opening a Realtime connection raises.
        """
        most = self._backend.settings.webrtc_calls
        if not most:
            raise NotFound("this gateway takes no WebRTC calls: CHROMA_WEBRTC_CALLS is 0")
        if self._draining.is_set():
            raise Unavailable("the gateway is draining: call again")
        if len(self._lines) >= most:
            raise ResourceExhausted(f"the gateway has {most} calls, as many as it may", retry_after_s=1.0)
        call_id, line = f"rtc_{secrets.token_hex(12)}", self._line(asked.offer, self._addresses)
        self._lines[call_id] = line, caller.tenant
        WEBRTC_CALLS.set(len(self._lines))
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(self._serve(call_id, line, caller, asked, answer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        await asyncio.wait([task, answer], return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            await task
            raise Unavailable("the call ended before it began")
        if answer.exception() is not None:
            await asyncio.wait([task])  # its place is free when the caller is told
        return call_id, answer.result()

    def share(self, worker: Worker) -> None:
        """Let requests that came to another process of this gateway end calls of this one, and the other way round."""

        async def hang_up(call: list[str]) -> bool:
            return self._hang_up_here(*call)

        worker.answer("hang_up", hang_up)
        self._ask_others = partial(worker.ask_others, "hang_up")

    async def hang_up(self, tenant: str, call_id: str) -> None:
        """End a call of this tenant. Raises NotFound."""
        if self._hang_up_here(tenant, call_id):
            return
        if self._ask_others is None or not any(await self._ask_others([tenant, call_id])):
            raise NotFound(f"no call {call_id[:80]!r}: it has ended, or another gateway has it")

    def _hang_up_here(self, tenant: str, call_id: str) -> bool:
        line, owner = self._lines.get(call_id, (None, ""))
        if line is None or owner != tenant:
            return False
        line.hang_up()
        return True

    async def drain(self, grace_s: float) -> None:
        """Wait up to `grace_s` for the calls to end, which they do after their running replies, then end them."""
        if self._tasks and grace_s:
            await asyncio.wait(self._tasks, timeout=grace_s)
        await cancel(*self._tasks)

    async def _serve(self, call_id: str, line: Line, caller: Caller, asked: Asked, answer: asyncio.Future[str]) -> None:
        """Hold a call from its answer to its end. Raises what goes wrong before the answer."""
        outcome = "failed"
        try:
            outcome = await self._hold(line, caller, asked, answer)
        except ChromaError as error:
            if not answer.done():
                answer.set_exception(error)
                return
            log.info("the call %s ended with %s: %s", call_id, error.status, error.message)
            await self._say(line, error, beta=asked.beta)
            outcome = "ended"
        except Exception:  # the boundary of a call: logged once
            log.exception("a call failed unexpectedly")
            error = ChromaError("the call failed unexpectedly: the server's log says why")
            if not answer.done():
                answer.set_exception(error)
                return
            await self._say(line, error, beta=asked.beta)
        finally:
            try:
                await to_its_end(line.close())  # a drain that cancels the call leaves no socket open
            finally:
                del self._lines[call_id]
                WEBRTC_CALLS.set(len(self._lines))
            if answer.done() and answer.exception() is None:
                CALLS.labels("webrtc", outcome).inc()

    async def _hold(self, line: Line, caller: Caller, asked: Asked, answer: asyncio.Future[str]) -> str:
        """Return how the call ended. Raises the error that ended it."""
        async with self._backend.seat(caller):
            connection, session_id = await open_connection(
                line, self._backend, caller, asked.given, asked.query, beta=asked.beta
            )
            answer.set_result(await line.answer())
            try:
                async with asyncio.timeout(self._backend.settings.webrtc_connect_s):
                    await line.connect()
            except (HungUp, TimeoutError):
                return "unconnected"
            try:
                await connection.run(self._closing)
            except HungUp:
                return "hung_up"
            with suppress(TimeoutError):
                async with asyncio.timeout(_PLAY_OUT_S):
                    await line.played()
        if self._closing.is_set():
            raise Unavailable(f"the gateway is draining: {again(session_id)}")
        return "ended"  # the client has deleted the session

    async def _say(self, line: Line, error: ChromaError, *, beta: bool) -> None:
        """Tell the client why the call ends, if it still listens."""
        try:
            async with asyncio.timeout(_SAY_S):
                await line.send(EventFactory(beta=beta).error(error, None))
        except (HungUp, TimeoutError):
            return


def _peer(offer: Offer, addresses: MediaAddresses) -> Line:
    """aiortc's end of a call. It is imported with the first call: it takes half a second and 30 MB. Raises NotFound
    where it is not installed."""
    if importlib.util.find_spec("aiortc") is None:
        raise NotFound("this gateway takes no WebRTC calls: its operator may install the extra webrtc of chroma-voice")
    from gateway.api.webrtc.peer import Peer

    return Peer(offer, addresses)
