"""Client events of the Realtime API that have fields of their own, as pydantic models."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

from gateway.api.client_json import parse_json
from gateway.api.errors import BadParameter
from gateway.api.field_errors import fit
from gateway.api.fields import MAX_EVENT_ID_CHARS, ItemId, MaxTokens, Metadata, Milliseconds, Name
from gateway.api.realtime.session.update import AudioIn, BetaFormat, Modalities, SessionIn, ToolIn
from services.common.sampling import Temperature

MAX_PARTS = 100
"""Most content parts of an item."""
MAX_INPUT_ITEMS = 200
"""Most items of the `input` of a response."""


async def read_event(text: str | None) -> dict[str, Any]:
    """Return the event in a message; None: the message is no text. Raises BadParameter for anything else than an object
    with a type."""
    if text is None:
        raise BadParameter("event", "expected JSON text, got a binary message")
    event = await parse_json(text, "event")
    if not isinstance(event, dict) or not isinstance(event.get("type"), str):
        raise BadParameter("type", "expected a JSON object with a `type`", "missing_required_parameter")
    return event


def client_event_id(event: dict[str, Any]) -> str | None:
    """Return the `event_id` that the client gave its event. None: it gave none, or one that cannot be an id."""
    event_id = event.get("event_id")
    return event_id if isinstance(event_id, str) and len(event_id) <= MAX_EVENT_ID_CHARS else None


class _Event(BaseModel):
    model_config = ConfigDict(extra="ignore")


class ItemReference(_Event):
    """`conversation.item.retrieve` and `.delete`."""

    item_id: ItemId


class ItemTruncate(ItemReference):
    """`conversation.item.truncate`."""

    content_index: Annotated[int, Field(ge=0, le=0)] = 0
    audio_end_ms: Milliseconds


class ContentIn(_Event):
    """A content part of an item."""

    type: Literal["input_text", "input_audio", "output_text", "output_audio", "text", "audio"]
    text: str | None = None
    audio: str | None = None
    transcript: str | None = None

    @property
    def words(self) -> str:
        """The part's text, or the transcript of its audio."""
        return self.text or self.transcript or ""

    @property
    def chars(self) -> int:
        """The characters of the part that the connection keeps: all but its audio."""
        return len(self.text or "") + len(self.transcript or "")

    @model_validator(mode="after")
    def _input_audio_has_audio(self) -> ContentIn:
        if self.type == "input_audio" and not self.audio:
            raise ValueError("an `input_audio` part needs its `audio`")
        return self


class ItemIn(_Event):
    """An item to add to the conversation."""

    id: ItemId | None = None
    type: Literal["message"]
    role: Literal["user", "assistant", "system"]
    content: Annotated[list[ContentIn], Field(min_length=1, max_length=MAX_PARTS)]

    @model_validator(mode="before")
    @classmethod
    def _developer_is_system(cls, item: Any) -> Any:
        if isinstance(item, dict) and item.get("role") == "developer":
            return {**item, "role": "system"}
        return item

    @model_validator(mode="after")
    def _only_users_send_audio(self) -> ItemIn:
        if self.role != "user" and any(part.type == "input_audio" for part in self.content):
            raise ValueError(f"an item of the {self.role} cannot hold `input_audio`")
        return self

    @property
    def text(self) -> str:
        """The text of all parts, one after the other."""
        return "".join(part.words for part in self.content)

    def content_dicts(self, *, beta: bool) -> list[dict[str, Any]]:
        """Return the content parts as server events show them: without their audio."""
        parts: list[dict[str, Any]] = []
        for part in self.content:
            if part.type == "input_audio":
                parts.append({"type": "input_audio", "transcript": part.transcript})
            elif self.role != "assistant":
                parts.append({"type": "input_text", "text": part.words})
            elif part.type in ("audio", "output_audio"):
                parts.append({"type": "audio" if beta else "output_audio", "transcript": part.words})
            else:
                parts.append({"type": "text" if beta else "output_text", "text": part.words})
        return parts


class FunctionCallIn(_Event):
    """A tool call of the past."""

    id: ItemId | None = None
    type: Literal["function_call"]
    call_id: Annotated[Name, Field(min_length=1)] | None = None
    name: Name
    arguments: str = "{}"


class FunctionOutputIn(_Event):
    """What a tool returned for a call."""

    id: ItemId | None = None
    type: Literal["function_call_output"]
    call_id: Name
    output: str


class _Create(_Event):
    previous_item_id: ItemId | None = None


class ItemCreate(_Create):
    """`conversation.item.create` of a message."""

    item: ItemIn


class FunctionCallCreate(_Create):
    """`conversation.item.create` of a tool call."""

    item: FunctionCallIn


class FunctionOutputCreate(_Create):
    """`conversation.item.create` of the result of a tool call."""

    item: FunctionOutputIn


def read_item_create(event: dict[str, Any]) -> ItemCreate | FunctionCallCreate | FunctionOutputCreate:
    """Return a `conversation.item.create`. An item of an unknown type is read as a message, which names the fault."""
    item = event.get("item")
    match item.get("type") if isinstance(item, dict) else None:
        case "function_call":
            return fit(event, FunctionCallCreate)
        case "function_call_output":
            return fit(event, FunctionOutputCreate)
        case _:
            return fit(event, ItemCreate)


class ResponseIn(_Event):
    """The settings of one response that have an effect. Others are ignored, as in a session."""

    instructions: str | None = None
    output_modalities: Modalities | None = None
    modalities: Modalities | None = None
    audio: AudioIn | None = None
    voice: Name | None = None
    output_audio_format: BetaFormat | None = None
    max_output_tokens: MaxTokens | Literal["inf"] | None = None
    max_response_output_tokens: MaxTokens | Literal["inf"] | None = None
    temperature: Temperature | None = None
    tools: list[ToolIn] | None = None
    tool_choice: str | dict[str, JsonValue] | None = None
    parallel_tool_calls: bool | None = None
    metadata: Metadata | None = None
    conversation: Literal["auto", "none"] | None = None
    input: Annotated[list[dict[str, JsonValue]], Field(max_length=MAX_INPUT_ITEMS)] | None = None

    def as_session(self) -> SessionIn:
        """Return these settings as fields of a session. A response has no settings of the user's audio."""
        names = self.model_fields_set & SessionIn.model_fields.keys()
        fields = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        if self.audio is not None:
            fields["audio"] = AudioIn(output=self.audio.output)
        return SessionIn.model_construct(_fields_set=set(fields), **fields)


class SessionUpdate(_Event):
    """`session.update` and the beta's `transcription_session.update`."""

    session: SessionIn


class ResponseCreate(_Event):
    """`response.create`."""

    response: ResponseIn = Field(default_factory=ResponseIn)

    @model_validator(mode="before")
    @classmethod
    def _null_is_unset(cls, event: Any) -> Any:
        if isinstance(event, dict) and event.get("response") is None:
            return {name: value for name, value in event.items() if name != "response"}
        return event
