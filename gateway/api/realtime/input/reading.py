"""How the messages of a client are read: one at a time, until it is done or its conversation has to end."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from gateway.conversation.conversation import Conversation


async def read_until_closing(
    reading: Coroutine[Any, Any, None], closing: asyncio.Event, conversation: Conversation
) -> None:
    """Run `reading` until it ends or `closing` is set, then finish the conversation. Raises what `reading` raises."""
    messages, closed = asyncio.ensure_future(reading), asyncio.ensure_future(closing.wait())
    try:
        await asyncio.wait((messages, closed), return_when=asyncio.FIRST_COMPLETED)
        if messages.done():
            messages.result()
        async with conversation.handling:  # a half-handled message could leave a turn that never ends
            messages.cancel()
    finally:
        messages.cancel()
        closed.cancel()
        await asyncio.wait((messages, closed))
    await conversation.finish()
