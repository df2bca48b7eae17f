"""The sound of a client that comes by itself, not in events, for as long as the client is connected."""

from __future__ import annotations

from gateway.conversation.conversation import Conversation
from services.common.wire.audio import SAMPLE_RATE_HZ


class Microphone:
    """Passes the sound on to turn detection. Without turn detection it keeps the last `max_s` of it, for the commit.

    A turn of the conversation holds a slot of the reasoner. So an open microphone makes none before the client commits.
    """

    def __init__(self, conversation: Conversation, max_s: float) -> None:
        self._conversation = conversation
        self._most_bytes = 2 * int(max_s * SAMPLE_RATE_HZ)
        self._kept = bytearray()

    async def push(self, pcm: bytes) -> None:
        """Take 16-bit PCM at 24 kHz."""
        if self._conversation.options.turn_detection is not None:
            self._kept.clear()
            async with self._conversation.handling:
                await self._conversation.append_audio(pcm)
            return
        self._kept += pcm
        del self._kept[: max(0, len(self._kept) - self._most_bytes)]

    async def release(self) -> None:
        """Give what is kept to the conversation: the client commits its turn."""
        kept = bytes(self._kept)
        self._kept.clear()
        if kept:
            await self._conversation.append_audio(kept)

    def clear(self) -> None:
        """Drop what is kept."""
        self._kept.clear()
