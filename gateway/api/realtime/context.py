"""What the handlers of one Realtime connection's events share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gateway.api.realtime.events.wire import EventFactory, Send
from gateway.api.realtime.items.items import Items
from gateway.api.realtime.session.settings import ConnectionSettings
from gateway.conversation.conversation import Conversation


@dataclass(frozen=True)
class ConnectionContext:
    """The parts of one connection that input, items and responses act on."""

    items: Items
    """The items that the client knows."""
    conversation: Conversation
    settings: ConnectionSettings
    """The settings that the client sent."""
    events: EventFactory
    """Makes server events."""
    send: Send
    """Sends server events, in order."""

    async def send_event(self, kind: str, **fields: Any) -> None:
        """Send one server event."""
        await self.send([self.events.event(kind, **fields)])
