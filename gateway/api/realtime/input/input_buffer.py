"""The input audio buffer of one Realtime connection: `input_audio_buffer.*`, and the items that it becomes."""

from __future__ import annotations

from typing import Any

from gateway.api.errors import BadParameter
from gateway.api.realtime.context import ConnectionContext
from gateway.api.realtime.events.wire import Events, decode_audio, error_detail
from gateway.api.realtime.input.microphone import Microphone
from gateway.api.realtime.items.items import Item
from gateway.conversation.output.events import SpeechStarted, SpeechStopped, TranscriptDelta, UserTranscript

_MIN_COMMIT_MS = 100
"""The least audio that a client may commit, as OpenAI's server has it."""


class InputBuffer:
    """Puts the client's audio into the conversation, and tells the client which items it becomes."""

    def __init__(
        self,
        context: ConnectionContext,
        microphone: Microphone,
    ) -> None:
        self.microphone = microphone
        self._context = context
        self._item_id = ""
        """Id of the item that the buffer will become. Empty: none was announced yet."""

    async def append(self, event: dict[str, Any]) -> None:
        """Handle `input_audio_buffer.append`."""
        audio = await decode_audio(event.get("audio"), self._context.settings.session.input_format, "audio")
        await self._context.conversation.append_audio(audio)

    async def commit(self, event: dict[str, Any]) -> None:
        """Handle `input_audio_buffer.commit`."""
        await self.microphone.release()
        audio_ms = round(self._context.conversation.open_audio_s * 1000)
        recording = self._context.conversation.end_audio() if audio_ms >= _MIN_COMMIT_MS else None
        if recording is None:
            message = f"expected at least {_MIN_COMMIT_MS} ms in the input audio buffer, got {audio_ms} ms"
            raise BadParameter("type", message, "input_audio_buffer_commit_empty")
        await self._context.send(self._committed(recording.turn_id, recording.recording_id))

    async def clear(self, event: dict[str, Any]) -> None:
        """Handle `input_audio_buffer.clear`."""
        self.microphone.clear()
        await self._context.conversation.drop_audio()
        self._item_id = ""
        await self._context.send_event("input_audio_buffer.cleared")

    async def started(self, event: SpeechStarted) -> None:
        """Tell the client that turn detection found the start of speech."""
        self._item_id = self._context.items.free_id(event.turn_id)
        fields = {"audio_start_ms": event.audio_ms, "item_id": self._item_id}
        await self._context.send_event("input_audio_buffer.speech_started", **fields)

    async def stopped(self, event: SpeechStopped) -> None:
        """Tell the client that turn detection found the end of speech, which commits the buffer."""
        fields = {"audio_end_ms": event.audio_ms, "item_id": self._item_id}
        stopped = self._context.events.event("input_audio_buffer.speech_stopped", **fields)
        await self._context.send([stopped, *self._committed(event.turn_id, event.recording_id)])

    async def transcribed(self, event: TranscriptDelta | UserTranscript) -> None:
        """Send a piece of the transcript of a recording, its whole transcript, or why there is none."""
        kind = "conversation.item.input_audio_transcription"
        if isinstance(event, TranscriptDelta) and event.is_early:
            if self._item_id:  # else the recording has ended, and its transcript is on the way
                place = {"item_id": self._item_id, "content_index": 0}
                await self._context.send_event(f"{kind}.delta", **place, delta=event.text)
            return
        item = self._context.items.of_recording(event.recording_id)
        if item is None:
            return
        place = {"item_id": item.item_id, "content_index": 0}
        if isinstance(event, TranscriptDelta):
            await self._context.send_event(f"{kind}.delta", **place, delta=event.text)
        elif event.error is not None:
            error = {**error_detail(event.error), "param": None}
            await self._context.send_event(f"{kind}.failed", **place, error=error)
        else:
            item.content = [{"type": "input_audio", "transcript": event.text}]
            usage = {"type": "duration", "seconds": round(event.audio_s, 3)}
            await self._context.send_event(f"{kind}.completed", **place, transcript=event.text, usage=usage)

    def _committed(self, turn_id: str, recording_id: str) -> Events:
        """Add the item that the buffer became. Return the events that announce it."""
        item_id, self._item_id = self._item_id or self._context.items.free_id(turn_id), ""
        item = Item(item_id, "user", [{"type": "input_audio", "transcript": None}], turn_id)
        item.recording_id = recording_id
        before = self._context.items.add(item)
        fields = {"previous_item_id": before, "item_id": item_id}
        committed = self._context.events.event("input_audio_buffer.committed", **fields)
        return [committed, *self._context.events.whole(item.to_dict(), before)]
