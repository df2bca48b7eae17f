"""One reply as Realtime events: `response.created`, its one item with its one part, `response.done`."""

from __future__ import annotations

import copy
from dataclasses import asdict
from typing import Any

from chroma.v1.reasoner_pb2 import END_REASON_LIMIT, END_REASON_POSITIONS
from gateway.api.realtime.items import Item, Items, new_item_id
from gateway.api.realtime.session import RealtimeSession, described_format
from gateway.api.realtime.wire import EventNames, SoundOut, error_detail
from gateway.conversation.events import AudioDelta, Outcome, TextDelta, TurnDone
from services.common.errors import ChromaError
from services.common.wire.audio import FRAME_RATE_HZ, HEARING_RATE_HZ

Events = list[dict[str, Any]]


class Reply:
    """The events of one turn's reply, in order."""

    def __init__(
        self, turn_id: str, session: RealtimeSession, metadata: dict[str, str] | None, items: Items, names: EventNames
    ) -> None:
        self.turn_id = turn_id
        self.response_id = f"resp_{turn_id.removeprefix('turn-')}"
        self.cancelled_by = "turn_detected"
        """Why it ends early, if it does."""
        self._session = session
        self._metadata = metadata
        self._items = items
        self._names = names
        self._sound = SoundOut(session.output_format)
        self._item: Item | None = None
        self._before: str | None = None
        self._text = ""

    def created(self) -> Events:
        """The reply is on the way."""
        return [self._names.event("response.created", response=self._described("in_progress", None))]

    def text(self, event: TextDelta) -> Events:
        """A piece of its text. `start_time`: the second of its sound from which it is spoken."""
        item, events = self._begun()
        self._text += event.text
        item.spoken.append((event.audio_offset_ms, event.text))
        if self._session.text_only:
            return [*events, self._part_event("response.output_text.delta", delta=event.text)]
        start_s = event.audio_offset_ms / 1000
        delta = self._part_event("response.output_audio_transcript.delta", delta=event.text, start_time=start_s)
        return [*events, delta]

    def audio(self, event: AudioDelta) -> Events:
        """A piece of its sound."""
        _, events = self._begun()
        sound = self._sound.push(event.data)
        return [*events, self._part_event("response.output_audio.delta", delta=sound)] if sound else events

    def done(self, event: TurnDone) -> Events:
        """Its end."""
        status, details = self._outcome(event)
        events: Events = []
        if self._item is not None:
            item = self._item
            if event.outcome is not Outcome.INTERRUPTED and (rest := self._sound.finish()):
                events.append(self._part_event("response.output_audio.delta", delta=rest))
            item.status = "completed" if status == "completed" else "incomplete"
            item.content = [self._content()]
            if self._session.text_only:
                events.append(self._part_event("response.output_text.done", text=self._text))
            else:
                events.append(self._part_event("response.output_audio.done"))
                events.append(self._part_event("response.output_audio_transcript.done", transcript=self._text))
            events.append(self._part_event("response.content_part.done", part=self._part()))
            as_dict = copy.deepcopy(item.to_dict())
            place = {"response_id": self.response_id, "output_index": 0}
            events.append(self._names.event("response.output_item.done", **place, item=as_dict))
            events += self._names.done(as_dict, self._before)
        response = self._described(status, details, usage=usage(event))
        response["timings"] = asdict(event.timings)  # our addition, which the page draws
        return [*events, self._names.event("response.done", response=response)]

    def _begun(self) -> tuple[Item, Events]:
        """The item of the reply, and the events that announce it the first time."""
        if self._item is not None:
            return self._item, []
        item = self._item = Item(new_item_id(), "assistant", [], self.turn_id, "in_progress")
        self._before = self._items.add(item)
        as_dict = copy.deepcopy(item.to_dict())
        place = {"response_id": self.response_id, "output_index": 0}
        events = [self._names.event("response.output_item.added", **place, item=as_dict)]
        events += self._names.added(as_dict, self._before)
        return item, [*events, self._part_event("response.content_part.added", part=self._part())]

    def _part_event(self, kind: str, **fields: Any) -> dict[str, Any]:
        assert self._item is not None, "the item has begun"
        place = {"response_id": self.response_id, "item_id": self._item.item_id, "output_index": 0, "content_index": 0}
        return self._names.event(kind, **place, **fields)

    def _part(self) -> dict[str, Any]:
        if self._session.text_only:
            return {"type": "text", "text": self._text}
        return {"type": "audio", "transcript": self._text}

    def _content(self) -> dict[str, Any]:
        return reply_content(self._text, text_only=self._session.text_only, beta=self._names.beta)

    def _outcome(self, event: TurnDone) -> tuple[str, dict[str, Any] | None]:
        if event.outcome is Outcome.INTERRUPTED:
            return "cancelled", {"type": "cancelled", "reason": self.cancelled_by}
        if event.outcome is Outcome.FAILED:
            error = event.error or ChromaError("the turn failed")
            return "failed", {"type": "failed", "error": error_detail(error)}
        if event.speech_end in (END_REASON_LIMIT, END_REASON_POSITIONS):
            return "incomplete", {"type": "incomplete", "reason": "max_output_tokens"}
        return "completed", None

    def _described(
        self, status: str, details: dict[str, Any] | None, usage: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        session = self._session
        output = [copy.deepcopy(self._item.to_dict())] if self._item is not None else []
        response: dict[str, Any] = {
            "object": "realtime.response",
            "id": self.response_id,
            "status": status,
            "status_details": details,
            "output": output,
            "conversation_id": f"conv_{session.session_id}",
            "max_output_tokens": session.max_output_tokens or "inf",
            "usage": usage,
            "metadata": self._metadata,
        }
        if self._names.beta:
            return {**response, "modalities": ["text"] if session.text_only else ["audio", "text"]}
        sound = {"format": described_format(session.output_format), "voice": session.voice}
        return {**response, "output_modalities": session.modalities, "audio": {"output": sound}}


def reply_content(text: str, *, text_only: bool, beta: bool) -> dict[str, Any]:
    """The content part of an assistant's item."""
    if text_only:
        return {"type": "text" if beta else "output_text", "text": text}
    return {"type": "audio" if beta else "output_audio", "transcript": text}


def usage(event: TurnDone) -> dict[str, Any]:
    """Tokens of a turn: the reasoner's, in and out, and one a frame of speech. The seconds are our addition."""
    heard = min(_hearing_tokens(event.input_audio_s), event.input_tokens)
    frames = round(event.output_audio_s * FRAME_RATE_HZ)
    cached = {"text_tokens": event.cached_tokens, "audio_tokens": 0, "image_tokens": 0}
    output_tokens = event.output_tokens + frames
    return {
        "total_tokens": event.input_tokens + output_tokens,
        "input_tokens": event.input_tokens,
        "output_tokens": output_tokens,
        "input_token_details": {
            "text_tokens": event.input_tokens - heard,
            "audio_tokens": heard,
            "image_tokens": 0,
            "cached_tokens": event.cached_tokens,
            "cached_tokens_details": cached,
        },
        "output_token_details": {"text_tokens": event.output_tokens, "audio_tokens": frames},
        "input_audio_seconds": round(event.input_audio_s, 3),
        "output_audio_seconds": round(event.output_audio_s, 3),
    }


def _hearing_tokens(audio_s: float) -> int:
    """Tokens of a recording (docs/model.md, section 7): a mel frame each 10 ms, a token each 4 of them."""
    mel = -(-round(audio_s * HEARING_RATE_HZ) // 160)
    return max(0, (((mel - 1) // 2 + 1) - 2) // 2 + 1) if mel > 2 else 0
