"""How a Realtime connection reaches its client: client events in, server events out, whatever carries them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from gateway.api.client_json import to_json
from gateway.conversation.output.player import Player
from gateway.pipeline.deltas import AudioDelta


class HungUp(Exception):
    """The client has gone: no event comes from it, and none reaches it."""


class Transport(Protocol):
    """Carries the events of one connection."""

    @property
    def speaker(self) -> Speaker | None:
        """What plays the replies to the client. None: the client plays them, and gets their speech in events."""
        ...

    async def receive(self) -> str | bytes | None:
        """Return what comes next of the client: the text of a message, sound as 16-bit PCM at 24 kHz, or None for a
        message that is not text. Raises HungUp, and the error that ends the connection."""
        ...

    async def send(self, event: dict[str, Any]) -> None:
        """Send a server event. Waits while the client takes nothing. Raises HungUp."""
        ...


@dataclass(frozen=True)
class PlaybackChange:
    """The playing of a reply began, ended with the last of its speech, or was cut off after `played_ms`."""

    turn_id: str
    kind: Literal["started", "stopped", "cleared"]
    played_ms: int = 0


class Speaker(Player, Protocol):
    """Plays the speech of replies to the client, one reply after the other."""

    changes: asyncio.Queue[PlaybackChange]
    """What happened, oldest first, for the connection to tell the client."""

    async def play(self, speech: AudioDelta) -> None:
        """Play a piece of a reply after all that came before. Waits while too much is to be played."""
        ...

    def finish(self, turn_id: str) -> None:
        """Note that no more speech of this reply comes."""
        ...


class WebSocketTransport:
    """Carries the events as text messages of a WebSocket. The client plays the replies."""

    speaker: Speaker | None = None

    def __init__(self, socket: WebSocket) -> None:
        self._socket = socket

    async def receive(self) -> str | None:
        """Return the text of the next message. The socket reads no message before it is asked for."""
        message = await self._socket.receive()
        if message["type"] == "websocket.disconnect":
            raise HungUp
        return message.get("text")

    async def send(self, event: dict[str, Any]) -> None:
        """Send an event as JSON."""
        if {self._socket.client_state, self._socket.application_state} != {WebSocketState.CONNECTED}:
            raise HungUp
        try:
            await self._socket.send_text(to_json(event))
        except WebSocketDisconnect:
            raise HungUp from None
