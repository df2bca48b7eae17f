"""What the gateway plays to a Realtime client, and how it tells the client. Clients of a WebSocket play themselves."""

from __future__ import annotations

from gateway.api.errors import BadParameter
from gateway.api.realtime.events.transport import PlaybackChange, Speaker
from gateway.api.realtime.events.wire import EventFactory, Send
from gateway.api.realtime.items.items import Item, Items, reply_content, response_id
from gateway.pipeline.deltas import AudioDelta


class Playback:
    """Plays the replies of one connection, and sends `output_audio_buffer.*` and `conversation.item.truncated`."""

    def __init__(
        self,
        speaker: Speaker | None,
        items: Items,
        events: EventFactory,
        send: Send,
    ) -> None:
        self._speaker = speaker
        self._items = items
        self._events = events
        self._send = send
        self._running: dict[str, int | None] = {}
        """The replies with speech whose `response.done` was not sent, by turn id: None, or the milliseconds that were
        played of one that was cut off."""

    @property
    def is_on(self) -> bool:
        """Whether the gateway plays the replies, and not the client."""
        return self._speaker is not None

    async def run(self) -> None:
        """Tell the client what is played, for ever."""
        while self._speaker is not None:
            change = await self._speaker.changes.get()
            fields = {"response_id": response_id(change.turn_id)}
            await self._send([self._events.event(f"output_audio_buffer.{change.kind}", **fields)])
            if change.kind == "cleared":
                await self._cut(change)

    def check(self) -> None:
        """Raise BadParameter if the client plays the replies itself."""
        if self._speaker is None:
            message = "there is no output audio buffer: the client plays the replies itself"
            raise BadParameter("type", message, "unknown_event")

    async def play(self, speech: AudioDelta) -> None:
        """Play a piece of a reply. Waits while too much is to be played."""
        if self._speaker is not None:
            self._running.setdefault(speech.turn_id)
            await self._speaker.play(speech)

    async def finish(self, turn_id: str) -> None:
        """Note that `response.done` of this reply was sent: none of its speech comes any more."""
        if self._speaker is None:
            return
        self._speaker.finish(turn_id)
        played_ms = self._running.pop(turn_id, None)
        if played_ms is not None:
            await self._truncate_all(turn_id, played_ms)

    async def truncate(self, item: Item, played_ms: int) -> None:
        """Shorten a reply's item to what was played, as its history is, and tell the client."""
        heard = "".join(text for start_ms, text in item.spoken if start_ms < played_ms)
        item.content = [reply_content(heard, text_only=False, beta=self._events.beta)]
        item.status = "incomplete"
        await self._send([self._events.truncated(item.item_id, played_ms)])

    async def _cut(self, change: PlaybackChange) -> None:
        if change.turn_id in self._running:
            self._running[change.turn_id] = change.played_ms  # its item is complete with its `response.done`
        else:
            await self._truncate_all(change.turn_id, change.played_ms)

    async def _truncate_all(self, turn_id: str, played_ms: int) -> None:
        for item in self._items.of_turn(turn_id, "assistant"):
            await self.truncate(item, played_ms)
