"""/v1/responses: takes a conversation and returns the next reply as a text, whole or streamed."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from chroma.v1.dialogue_pb2 import SessionConfig
from gateway.api.auth import http_caller
from gateway.api.client_json import parse_request
from gateway.api.errors import BadParameter
from gateway.api.openai.chat.past_turns import INPUT_FORMAT, Recording, Result, Said, talk_from
from gateway.api.openai.chat.request import InputAudioPart
from gateway.api.openai.ignored import ignored_header
from gateway.api.openai.responses.past_responses import Entry, PastResponses, Spoken
from gateway.api.openai.responses.request import (
    CallItem,
    CallOutputItem,
    ItemReference,
    MessageItem,
    ResponsesRequest,
    TextContent,
)
from gateway.api.openai.responses.response_object import ResponseBuilder
from gateway.api.openai.streaming import streaming_response
from gateway.api.prompt_size import check_prompt_size
from gateway.api.tools import tools_of_request
from gateway.conversation.backend import Backend
from gateway.conversation.conversation import Conversation
from gateway.conversation.one_shot import one_shot
from gateway.conversation.options import ConversationOptions
from gateway.store.records import ToolCall

Piece = Entry | Recording
"""A piece of a conversation: an entry without speech, or speech of the user."""


async def create_response(request: Request) -> Response:
    """POST: answer a conversation."""
    backend, caller = http_caller(request)
    wanted = await parse_request(await request.body(), ResponsesRequest)
    wanted.check()
    past = PastResponses(request.app.state.replies, caller.tenant)
    new = [piece for index, item in enumerate(wanted.items) for piece in await _pieces(item, f"input.{index}", past)]
    before = await past.conversation(wanted.previous_response_id) if wanted.previous_response_id else []
    pieces: list[Piece] = [*before, *new]
    said = _said(pieces)
    config = _config(wanted, pieces, backend)
    await check_prompt_size(backend, config, "instructions" if wanted.instructions else "input", "tools")

    async def talk(conversation: Conversation) -> None:
        await talk_from(conversation, said, backend.settings)

    options = ConversationOptions(
        input_format=INPUT_FORMAT, max_lead_s=0.0, text_only=True, max_output_tokens=wanted.max_output_tokens
    )
    events = one_shot(backend, caller, config, options, talk)
    entries = [piece for piece in new if not isinstance(piece, Recording)]
    kept_by = None if wanted.store is False else past
    response = ResponseBuilder(wanted, kept_by, entries if len(entries) == len(new) else None)
    headers = ignored_header(wanted.ignored)
    if wanted.stream:
        return await streaming_response(response.events(events), "text/event-stream", headers)
    return JSONResponse(await response.whole(events), headers=headers)


def _config(wanted: ResponsesRequest, pieces: Sequence[Piece], backend: Backend) -> SessionConfig:
    config = SessionConfig()
    instructions = [piece.text for piece in pieces if isinstance(piece, Spoken) and piece.role == "system"]
    if wanted.instructions is not None or instructions:
        config.system_prompt = "\n\n".join(filter(None, (wanted.instructions, *instructions)))
    if wanted.tools or wanted.tool_choice is not None:
        tools = tools_of_request(wanted.tools or (), wanted.tool_choice, wanted.parallel_tool_calls, backend)
        config.tools.CopyFrom(tools)
    return config


async def _pieces(
    item: MessageItem | ItemReference | CallItem | CallOutputItem, where: str, past: PastResponses
) -> list[Piece]:
    """The pieces of one item of the input. Raises BadParameter, NotFound."""
    if isinstance(item, ItemReference):
        return [await past.item(item.id)]
    if isinstance(item, CallItem):
        return [ToolCall(item.call_id, item.name, item.arguments)]
    if isinstance(item, CallOutputItem):
        return [Result(item.call_id, item.text)]
    role = "system" if item.role == "developer" else item.role
    if isinstance(item.content, str):
        return [Spoken(role, item.content)]
    pieces: list[Piece] = []
    for number, part in enumerate(item.content):
        if isinstance(part, TextContent):
            pieces.append(Spoken(role, part.text))
        elif isinstance(part, InputAudioPart):
            if role != "user":
                raise BadParameter(f"{where}.content.{number}", f"{where}: expected text, got speech of the {role}")
            pieces.append(Recording(part.input_audio.data, f"{where}.content.{number}"))
        elif role == "assistant":
            pieces.append(Spoken(role, part.refusal))
        else:
            raise BadParameter(f"{where}.content.{number}", f"{where}: expected text, got a refusal of the {role}")
    if not pieces:
        raise BadParameter(f"{where}.content", f"{where}: expected content, got none")
    return pieces


def _said(pieces: Sequence[Piece]) -> list[Said | Result]:
    """What the user, the assistant and the tools said. Raises BadParameter for a result without its call, and for a
    call without a result at the end."""
    said: list[Said | Result] = []
    call_ids: set[str] = set()
    for piece in pieces:
        if isinstance(piece, Result):
            if piece.call_id not in call_ids:
                expected = "input: expected the output of a call before it"
                raise BadParameter("input", f"{expected}, got one of {piece.call_id[:80]!r}")
            said.append(piece)
        elif isinstance(piece, ToolCall):
            call_ids.add(piece.call_id)
            said.append(Said("assistant", piece))
        elif isinstance(piece, Recording):
            said.append(Said("user", piece))
        elif piece.role != "system":
            said.append(Said("assistant" if piece.role == "assistant" else "user", piece.text))
    if said and isinstance(said[-1], Said) and isinstance(said[-1].content, ToolCall):
        raise BadParameter("input", "input: expected the output of each call, got calls at the end")
    return said
