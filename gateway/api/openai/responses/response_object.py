"""The response of /v1/responses, built from the events of its turn: as one object, or as server-sent events."""

from __future__ import annotations

import itertools
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import aclosing
from typing import Any

from gateway.api.catalog import MODEL
from gateway.api.errors import error_type, http_status
from gateway.api.openai.responses.past_responses import Entry, PastResponses, Spoken
from gateway.api.openai.responses.request import ResponsesRequest
from gateway.api.openai.streaming import server_sent_event
from gateway.api.tokens import Tokens
from gateway.conversation.output.events import Event, TurnDone
from gateway.pipeline.deltas import TextDelta, ToolCallMade
from gateway.store.records import ToolCall
from services.common.errors import ChromaError


class ResponseBuilder:
    """One response. `past` keeps it; None: nothing keeps it. `new` is its input without speech; None: it has speech.

    The text is one message. A call of a tool is an item of its own.
    """

    def __init__(self, wanted: ResponsesRequest, past: PastResponses | None, new: Sequence[Entry] | None) -> None:
        self._wanted = wanted
        self._past = past
        self._new = new
        self._id = f"resp_{secrets.token_hex(24)}"
        self._created = int(time.time())
        self._text = ""
        self._message_id = ""
        """The id of the message under way. Empty: there is none."""
        self._output: list[dict[str, Any]] = []
        """The items that are complete."""
        self._entries: dict[str, Entry] = {}
        """The same as entries of a conversation, by their ids."""
        self._numbers = itertools.count()

    async def whole(self, events: AsyncGenerator[Event, None]) -> dict[str, Any]:
        """Return the response as one object."""
        response: dict[str, Any] = {}
        async with aclosing(events):
            async for event in events:
                for _ in self._take(event):
                    pass
                if isinstance(event, TurnDone):
                    response = await self._ended(event)
        return response

    async def events(self, events: AsyncGenerator[Event, None]) -> AsyncIterator[bytes]:
        """Yield the response as server-sent events. A late error ends it with `response.failed`."""
        started = False
        async with aclosing(events):
            try:
                async for event in events:
                    if not started:
                        started = True
                        yield self._event("response.created", response=self._response("in_progress"))
                        yield self._event("response.in_progress", response=self._response("in_progress"))
                    for sent in self._take(event):
                        yield sent
                    if isinstance(event, TurnDone):
                        response = await self._ended(event)
                        yield self._event(f"response.{response['status']}", response=response)
            except ChromaError as error:
                if not started:
                    raise
                failed = self._response("failed") | {"error": _error(error)}
                yield self._event("response.failed", response=failed)

    def _take(self, event: Event) -> Iterator[bytes]:
        """Take an event of the turn. Yields what a client of a stream gets for it."""
        if isinstance(event, TextDelta):
            if not self._message_id:
                yield from self._begin_message()
            self._text += event.text
            yield self._part_event("response.output_text.delta", delta=event.text, logprobs=[])
        elif isinstance(event, ToolCallMade):
            yield from self._end_message("completed")
            yield from self._call(event)
        elif isinstance(event, TurnDone):
            if not self._message_id and not self._output:
                yield from self._begin_message()  # a reply without a word is an empty message
            yield from self._end_message(_status(event))

    def _begin_message(self) -> Iterator[bytes]:
        self._message_id, self._text = f"msg_{secrets.token_hex(24)}", ""
        yield self._item_event("response.output_item.added", self._message("in_progress", []))
        yield self._part_event("response.content_part.added", part=self._part())

    def _end_message(self, status: str) -> Iterator[bytes]:
        if not self._message_id:
            return
        yield self._part_event("response.output_text.done", text=self._text, logprobs=[])
        yield self._part_event("response.content_part.done", part=self._part())
        message = self._message(status, [self._part()])
        yield self._item_event("response.output_item.done", message)
        self._add(message, Spoken("assistant", self._text))
        self._message_id = ""

    def _call(self, call: ToolCallMade) -> Iterator[bytes]:
        item_id = f"fc_{secrets.token_hex(24)}"
        item = {"id": item_id, "type": "function_call", "call_id": call.call_id, "name": call.name}
        index = {"item_id": item_id, "output_index": len(self._output)}
        yield self._item_event("response.output_item.added", {**item, "arguments": "", "status": "in_progress"})
        yield self._event("response.function_call_arguments.delta", **index, delta=call.arguments)
        yield self._event("response.function_call_arguments.done", **index, name=call.name, arguments=call.arguments)
        item |= {"arguments": call.arguments, "status": "completed"}
        yield self._item_event("response.output_item.done", item)
        self._add(item, ToolCall(call.call_id, call.name, call.arguments))

    def _add(self, item: dict[str, Any], entry: Entry) -> None:
        self._output.append(item)
        self._entries[item["id"]] = entry

    async def _ended(self, done: TurnDone) -> dict[str, Any]:
        """The response of a turn that has ended. It is kept first: the client may refer to it at once."""
        if self._past is not None:
            await self._past.keep(self._id, self._entries, self._new, self._wanted.previous_response_id)
        status = _status(done)
        response = self._response(status) | {"usage": _usage(done)}
        if status == "incomplete":
            return response | {"incomplete_details": {"reason": "max_output_tokens"}}
        return response | {"completed_at": int(time.time())}

    def _response(self, status: str) -> dict[str, Any]:
        wanted = self._wanted
        return {
            "id": self._id,
            "object": "response",
            "created_at": self._created,
            "status": status,
            "background": False,
            "error": None,
            "incomplete_details": None,
            "instructions": wanted.instructions,
            "max_output_tokens": wanted.max_output_tokens,
            "metadata": wanted.metadata or {},
            "model": wanted.model or MODEL,
            "output": [*self._output],
            "parallel_tool_calls": wanted.parallel_tool_calls is not False,
            "previous_response_id": wanted.previous_response_id,
            "reasoning": {"effort": None, "summary": None},
            "service_tier": "default",
            "store": self._past is not None,
            "temperature": None,
            "text": {"format": {"type": "text"}},
            "tool_choice": wanted.tool_choice or "auto",
            "tools": [_tool(tool) for tool in wanted.tools or ()],
            "top_p": None,
            "truncation": "disabled",
            "usage": None,
            "user": wanted.user,
        }

    def _message(self, status: str, content: list[dict[str, Any]]) -> dict[str, Any]:
        return {"id": self._message_id, "type": "message", "status": status, "role": "assistant", "content": content}

    def _part(self) -> dict[str, Any]:
        return {"type": "output_text", "text": self._text, "annotations": [], "logprobs": []}

    def _item_event(self, event_type: str, item: dict[str, Any]) -> bytes:
        return self._event(event_type, output_index=len(self._output), item=item)

    def _part_event(self, event_type: str, **fields: Any) -> bytes:
        index = {"item_id": self._message_id, "output_index": len(self._output), "content_index": 0}
        return self._event(event_type, **index, **fields)

    def _event(self, event_type: str, **fields: Any) -> bytes:
        event = {"type": event_type, "sequence_number": next(self._numbers), **fields}
        return f"event: {event_type}\n".encode() + server_sent_event(event)


def _tool(tool: Any) -> dict[str, Any]:
    described = {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
    return {"type": "function", **described, "strict": False}


def _status(done: TurnDone) -> str:
    return "incomplete" if done.is_cut else "completed"


def _usage(done: TurnDone) -> dict[str, Any]:
    tokens = Tokens.of(done)
    return {
        "input_tokens": tokens.input,
        "input_tokens_details": {"cached_tokens": tokens.cached, "cache_write_tokens": 0},
        "output_tokens": tokens.output,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": tokens.input + tokens.output,
    }


def _error(error: ChromaError) -> dict[str, Any]:
    """The error of a response. OpenAI has few codes for it; `type` is as in other errors."""
    status = http_status(error)
    code = "rate_limit_exceeded" if status == 429 else "invalid_prompt" if status < 500 else "server_error"
    return {"code": code, "message": error.message, "type": error_type(error), "param": None}
