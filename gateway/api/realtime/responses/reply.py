"""The Realtime events of one reply: `response.created`, one item with one content part, an item for each tool call,
`response.done`."""

from __future__ import annotations

import copy
from dataclasses import asdict
from typing import Any

from gateway.api.realtime.events.wire import EventFactory, Events, ReplyAudioEncoder, error_detail
from gateway.api.realtime.items.items import Item, Items, item_id_of, new_item_id, reply_content, response_id
from gateway.api.realtime.session.session import RealtimeSession
from gateway.api.tokens import Tokens
from gateway.conversation.output.events import Outcome, TurnDone
from gateway.pipeline.deltas import AudioDelta, TextDelta, ToolCallMade
from services.common.errors import ChromaError
from services.common.wire.audio import SAMPLE_RATE_HZ


class Reply:
    """Makes the events of one turn's reply, in order. Each method returns the events to send."""

    def __init__(
        self,
        turn_id: str,
        session: RealtimeSession,
        metadata: dict[str, str] | None,
        items: Items | None,
        events: EventFactory,
    ) -> None:
        """`items` is None for a reply outside the conversation."""
        self.turn_id = turn_id
        self.response_id = response_id(turn_id)
        self.audio_events = True
        """Whether the client gets the speech in events, and not as sound."""
        self._session = session
        self._metadata = metadata
        self._items = items
        self._events = events
        self._audio = ReplyAudioEncoder(session.output_format)
        self._item: Item | None = None
        self._previous_item_id: str | None = None
        self._calls: list[Item] = []
        self._text = ""

    def created(self) -> Events:
        """The events of the turn's start."""
        return [self._events.event("response.created", response=self._response("in_progress", None))]

    def text(self, event: TextDelta) -> Events:
        """The events of a part of the text. `start_time`, an extension, is when it is spoken, in seconds of the audio.
        Text that is put together of several pieces has them as `parts`, another extension."""
        item, events = self._started_item()
        self._text += event.text
        item.spoken += [(piece.audio_offset_ms, piece.text) for piece in event.pieces]
        if self._session.text_only:
            return [*events, self._part_event("response.output_text.delta", delta=event.text)]
        start_s = event.audio_offset_ms / 1000
        delta = self._part_event("response.output_audio_transcript.delta", delta=event.text, start_time=start_s)
        if event.parts:
            delta["parts"] = [{"text": part.text, "start_time": part.audio_offset_ms / 1000} for part in event.parts]
        return [*events, delta]

    def audio(self, event: AudioDelta) -> Events:
        """The events of a piece of audio."""
        item, events = self._started_item()
        item.audio_ms = (event.first_sample + event.samples) * 1000 // SAMPLE_RATE_HZ
        delta = self._audio.push(event.data) if self.audio_events else ""
        return [*events, self._part_event("response.output_audio.delta", delta=delta)] if delta else events

    def tool_call(self, event: ToolCallMade) -> Events:
        """The events of a tool call. Its arguments come as a whole."""
        function = {"call_id": event.call_id, "name": event.name, "arguments": event.arguments}
        item = Item(new_item_id(), "call", [], self.turn_id, function=function)
        before = self._items.add(item) if self._items is not None else None
        index = len(self._calls) + (self._item is not None)
        self._calls.append(item)
        place = {"response_id": self.response_id, "output_index": index}
        part_place = {**place, "item_id": item.item_id, "call_id": event.call_id}
        whole, kind = item.to_dict(), "response.function_call_arguments"
        begun = {**whole, "status": "in_progress", "arguments": ""}
        return [
            self._events.event("response.output_item.added", **place, item=begun),
            *self._added(begun, before),
            self._events.event(f"{kind}.delta", **part_place, delta=event.arguments),
            self._events.event(f"{kind}.done", **part_place, name=event.name, arguments=event.arguments),
            self._events.event("response.output_item.done", **place, item=whole),
            *self._done(whole, before),
        ]

    def done(self, event: TurnDone) -> Events:
        """The events of the turn's end."""
        status, details = self._outcome(event)
        events: Events = []
        if self._item is not None:
            item = self._item
            if event.outcome is not Outcome.INTERRUPTED and (delta := self._audio.finish()):
                events.append(self._part_event("response.output_audio.delta", delta=delta))
            item.status = "completed" if status == "completed" else "incomplete"
            item.content = [self._content()]
            if self._session.text_only:
                events.append(self._part_event("response.output_text.done", text=self._text))
            else:
                events.append(self._part_event("response.output_audio.done"))
                events.append(self._part_event("response.output_audio_transcript.done", transcript=self._text))
            events.append(self._part_event("response.content_part.done", part=self._part()))
            item_dict = copy.deepcopy(item.to_dict())
            place = {"response_id": self.response_id, "output_index": 0}
            events.append(self._events.event("response.output_item.done", **place, item=item_dict))
            events += self._done(item_dict, self._previous_item_id)
        response = self._response(status, details, usage=usage(event))
        response["timings"] = asdict(event.timings)  # an extension, which the web page draws
        if event.out_of_domain:
            response["out_of_domain"] = list(event.out_of_domain)
        return [*events, self._events.event("response.done", response=response)]

    def _started_item(self) -> tuple[Item, Events]:
        """Return the reply's item, and the events that announce it if it is new."""
        if self._item is not None:
            return self._item, []
        item = self._item = Item(item_id_of(self.turn_id, "assistant"), "assistant", [], self.turn_id, "in_progress")
        self._previous_item_id = self._items.add(item) if self._items is not None else None
        item_dict = copy.deepcopy(item.to_dict())
        place = {"response_id": self.response_id, "output_index": 0}
        events = [self._events.event("response.output_item.added", **place, item=item_dict)]
        events += self._added(item_dict, self._previous_item_id)
        return item, [*events, self._part_event("response.content_part.added", part=self._part())]

    def _added(self, item: dict[str, Any], before: str | None) -> Events:
        return self._events.added(item, before) if self._items is not None else []

    def _done(self, item: dict[str, Any], before: str | None) -> Events:
        return self._events.done(item, before) if self._items is not None else []

    def _part_event(self, kind: str, **fields: Any) -> dict[str, Any]:
        assert self._item is not None, "the item was announced"
        place = {"response_id": self.response_id, "item_id": self._item.item_id, "output_index": 0, "content_index": 0}
        return self._events.event(kind, **place, **fields)

    def _part(self) -> dict[str, Any]:
        if self._session.text_only:
            return {"type": "text", "text": self._text}
        return {"type": "audio", "transcript": self._text}

    def _content(self) -> dict[str, Any]:
        return reply_content(self._text, text_only=self._session.text_only, beta=self._events.beta)

    def _outcome(self, event: TurnDone) -> tuple[str, dict[str, Any] | None]:
        if event.outcome is Outcome.INTERRUPTED:
            reason = "turn_detected" if event.interrupted_by == "speech" else "client_cancelled"
            return "cancelled", {"type": "cancelled", "reason": reason}
        if event.outcome is Outcome.FAILED:
            error = event.error or ChromaError("the turn failed")
            return "failed", {"type": "failed", "error": error_detail(error)}
        if event.is_cut:
            return "incomplete", {"type": "incomplete", "reason": "max_output_tokens"}
        return "completed", None

    def _response(
        self, status: str, details: dict[str, Any] | None, usage: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        session = self._session
        items = [self._item, *self._calls] if self._item is not None else self._calls
        output = [copy.deepcopy(item.to_dict()) for item in items]
        response: dict[str, Any] = {
            "object": "realtime.response",
            "id": self.response_id,
            "status": status,
            "status_details": details,
            "output": output,
            "conversation_id": f"conv_{session.session_id}" if self._items is not None else None,
            "max_output_tokens": session.max_output_tokens or "inf",
            "usage": usage,
            "metadata": self._metadata,
        }
        if self._events.beta:
            return {**response, "modalities": ["text"] if session.text_only else ["audio", "text"]}
        output_audio = {"format": session.output_format.to_dict(), "voice": session.voice}
        return {**response, "output_modalities": session.modalities, "audio": {"output": output_audio}}


def usage(event: TurnDone) -> dict[str, Any]:
    """Return the tokens of a turn. The seconds are an extension."""
    tokens = Tokens.of(event)
    cached = {"text_tokens": tokens.cached, "audio_tokens": 0, "image_tokens": 0}
    return {
        "total_tokens": tokens.input + tokens.output,
        "input_tokens": tokens.input,
        "output_tokens": tokens.output,
        "input_token_details": {
            "text_tokens": tokens.input_text,
            "audio_tokens": tokens.input_audio,
            "image_tokens": 0,
            "cached_tokens": tokens.cached,
            "cached_tokens_details": cached,
        },
        "output_token_details": {"text_tokens": tokens.output_text, "audio_tokens": tokens.output_audio},
        "input_audio_seconds": round(event.input_audio_s, 3),
        "output_audio_seconds": round(event.output_audio_s, 3),
    }
