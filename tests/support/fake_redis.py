"""A server that speaks the protocol of Redis and answers as a test says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

from gateway.tasks import cancel

Words = list[str]


class FakeRedis:
    """One server. `answer` takes a command's words and returns what to answer: None, a number, a text, a list, a dict,
    or an exception whose text is the error. A command to which it returns `SILENCE` gets no answer."""

    SILENCE = object()

    def __init__(self, answer: Callable[[Words], Any]) -> None:
        self.answer = answer
        self.commands: list[Words] = []
        """All commands but those with which a client introduces itself."""
        self.port = 0

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[FakeRedis]:
        """Serve at a port of this machine."""
        open_now: set[asyncio.Task[Any]] = set()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            open_now.add(task)
            with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                while True:
                    reply = self._reply(await _command(reader))
                    writer.write(reply)
                    await writer.drain()
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            await cancel(*open_now)

    def _reply(self, words: Words) -> bytes:
        if words[0] == "HELLO":
            return b"-ERR unknown command 'HELLO'\r\n" if words[1:] == ["?"] else b"%1\r\n$5\r\nproto\r\n:3\r\n"
        if words[0] == "CLIENT":
            return b"+OK\r\n"
        self.commands.append(words)
        answer = self.answer(words)
        return b"" if answer is self.SILENCE else _encoded(answer)


async def _command(reader: asyncio.StreamReader) -> Words:
    """Read a command: an array of strings."""
    words: Words = []
    for _ in range(int((await reader.readuntil(b"\r\n"))[1:])):
        size = int((await reader.readuntil(b"\r\n"))[1:])
        words.append((await reader.readexactly(size + 2))[:-2].decode())
    return words


def _encoded(answer: Any) -> bytes:
    match answer:
        case None:
            return b"_\r\n"
        case Exception():
            return f"-{answer}\r\n".encode()
        case int():
            return b":%d\r\n" % answer
        case str():
            return f"${len(answer.encode())}\r\n{answer}\r\n".encode()
        case dict():
            pairs = [_encoded(it) for pair in answer.items() for it in pair]
            return b"%%%d\r\n" % len(answer) + b"".join(pairs)
        case _:
            return b"*%d\r\n" % len(answer) + b"".join(map(_encoded, answer))
