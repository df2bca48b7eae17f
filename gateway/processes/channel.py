"""The channel between the supervisor and one of its processes: messages over a socket pair, one JSON object a line."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

log = logging.getLogger(__name__)

_MAX_LINE_BYTES = 64 * 1024 * 1024
"""Largest message. A page of metrics has some 100 KB."""

Handler = Callable[[str, Any], Awaitable[Any]]
"""Takes the kind and the value of a message. Returns the answer to it, which has to fit JSON."""


class ChannelClosed(Exception):
    """The other end is gone."""


class Channel:
    """One end. `run` reads until the other end is closed."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, handle: Handler) -> None:
        self._reader = reader
        self._writer = writer
        self._handle = handle
        self._asked: dict[int, asyncio.Future[Any]] = {}
        self._questions = 0
        self._closed = False
        self._handling: set[asyncio.Task[None]] = set()

    @classmethod
    async def open(cls, end: socket.socket, handle: Handler) -> Channel:
        """Use one end of a socket pair."""
        reader, writer = await asyncio.open_connection(sock=end, limit=_MAX_LINE_BYTES)
        return cls(reader, writer, handle)

    def tell(self, kind: str, value: Any = None) -> None:
        """Send a message that has no answer. Nothing happens when the other end is gone."""
        self._send({"kind": kind, "value": value})

    async def ask(self, kind: str, value: Any = None, *, timeout_s: float | None) -> Any:
        """Send a message and return the answer to it. Raises ChannelClosed, and TimeoutError when no answer comes in
        time. None: it may take any time."""
        if self._closed:
            raise ChannelClosed
        self._questions += 1
        number = self._questions
        answer = self._asked[number] = asyncio.get_running_loop().create_future()
        self._send({"kind": kind, "value": value, "question": number})
        try:
            async with asyncio.timeout(timeout_s):
                return await answer
        finally:
            del self._asked[number]

    async def run(self) -> None:
        """Handle messages until the other end is closed. Those that wait for an answer then get ChannelClosed."""
        try:
            with suppress(ConnectionError):
                while line := await self._reader.readline():
                    await self._take(json.loads(line))
        finally:
            self.close()

    async def finish(self, timeout_s: float) -> None:
        """Close this end when everything that was told is sent, or after so many seconds."""
        with suppress(ConnectionError, TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._writer.drain()
                self.close()
                await self._writer.wait_closed()
        self.close()

    def close(self) -> None:
        """Close this end."""
        self._closed = True
        self._writer.close()
        for answer in self._asked.values():
            if not answer.done():
                answer.set_exception(ChannelClosed())

    async def _take(self, message: dict[str, Any]) -> None:
        """Handle a message: at once what needs no answer, so that all of it is handled when `run` returns."""
        if "answer" in message:
            answer = self._asked.get(message["answer"])
            if answer is not None and not answer.done():
                answer.set_result(message["value"])
            return
        if "question" not in message:
            await self._handled(message)
            return
        task = asyncio.create_task(self._handled(message))
        self._handling.add(task)
        task.add_done_callback(self._handling.discard)

    async def _handled(self, message: dict[str, Any]) -> None:
        try:
            value = await self._handle(message["kind"], message["value"])
        except Exception:  # the boundary of a message: logged once; who asked runs into its time limit
            log.exception("a message between the processes of the gateway failed: %s", message["kind"])
            return
        if "question" in message:
            self._send({"answer": message["question"], "value": value})

    def _send(self, message: dict[str, Any]) -> None:
        if not self._closed and not self._writer.is_closing():
            self._writer.write(json.dumps(message).encode() + b"\n")
