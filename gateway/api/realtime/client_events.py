"""Client events of the Realtime API that have fields of their own, as pydantic models."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from gateway.api.errors import BadParameter
from gateway.api.realtime.session import AudioIn, SessionIn
from services.common.sampling import Temperature


class _Event(BaseModel):
    model_config = ConfigDict(extra="ignore")


class ItemReference(_Event):
    """`conversation.item.retrieve` and `.delete`."""

    item_id: str


class ItemTruncate(ItemReference):
    """`conversation.item.truncate`."""

    content_index: Annotated[int, Field(ge=0, le=0)] = 0
    audio_end_ms: Annotated[int, Field(ge=0)]


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

    @model_validator(mode="after")
    def _input_audio_has_audio(self) -> ContentIn:
        if self.type == "input_audio" and not self.audio:
            raise ValueError("an `input_audio` part needs its `audio`")
        return self


class ItemIn(_Event):
    """An item to add to the conversation."""

    id: Annotated[str | None, Field(min_length=1, max_length=64)] = None
    type: Literal["message"]
    role: Literal["user", "assistant", "system"]
    content: Annotated[list[ContentIn], Field(min_length=1)]

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


class ItemCreate(_Event):
    """`conversation.item.create`."""

    item: ItemIn
    previous_item_id: str | None = None


class ResponseIn(BaseModel):
    """The settings of one response."""

    model_config = ConfigDict(extra="forbid")
    instructions: str | None = None
    output_modalities: list[Literal["text", "audio"]] | None = None
    modalities: list[Literal["text", "audio"]] | None = None
    audio: AudioIn | None = None
    voice: str | None = None
    output_audio_format: Literal["pcm16", "g711_ulaw", "g711_alaw"] | None = None
    max_output_tokens: int | Literal["inf"] | None = None
    max_response_output_tokens: int | Literal["inf"] | None = None
    temperature: Temperature | None = None
    metadata: dict[str, str] | None = None
    conversation: Literal["auto"] | None = None
    input: None = None
    prompt: None = None
    tools: Annotated[list[Any] | None, Field(max_length=0)] = None
    tool_choice: Any = None
    parallel_tool_calls: Any = None
    reasoning: Any = None

    def as_session(self) -> SessionIn:
        """Return these settings as fields of a session. Raises BadParameter for input settings."""
        if self.audio is not None and self.audio.input is not None:
            raise BadParameter("response.audio.input", "a response has no input settings")
        names = self.model_fields_set & SessionIn.model_fields.keys()
        fields = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        return SessionIn.model_construct(_fields_set=set(fields), **fields)


class ResponseCreate(_Event):
    """`response.create`."""

    response: ResponseIn = Field(default_factory=ResponseIn)

    @model_validator(mode="before")
    @classmethod
    def _null_is_unset(cls, event: Any) -> Any:
        if isinstance(event, dict) and event.get("response") is None:
            return {name: value for name, value in event.items() if name != "response"}
        return event
