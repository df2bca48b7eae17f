"""The request of /v1/responses: the part of OpenAI's Responses API that a client needs for texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, JsonValue, Tag

from gateway.api.errors import BadParameter
from gateway.api.fields import MaxTokens, Metadata, Name, OpaqueObject
from gateway.api.openai.chat.request import InputAudioPart, RefusalPart, TemperatureOrZero
from gateway.api.tools import Function
from services.common.sampling import TopP

_UNSUPPORTED = "unsupported_value"
_MAX_ITEMS = 1_000
_MAX_PARTS = 1_000

_NO_EFFECT = (
    "temperature",
    "top_p",
    "truncation",
    "reasoning",
    "max_tool_calls",
    "service_tier",
    "prompt_cache_retention",
    "prompt_cache_options",
    "verbosity",
)
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "truncation": (None, "disabled"),
    "reasoning": (None, {}),
    "service_tier": (None, "auto", "default"),
    "verbosity": (None, "medium"),
}
"""The values of a field that ask for nothing. Otherwise: null."""


_REFUSED = {
    "context_management": "a conversation that is too long loses its oldest turns",
    "moderation": "moderate the texts yourself",
    "image": "the answer is a text",
    "access_programs": "there are none",
    "background_options": "it answers at once",
}
"""Fields of OpenAI's that are refused, and what there is instead."""


class _Item(BaseModel):
    """An item as a client writes it, or as a response had it. Fields such as `id`, `status` and `phase` say nothing
    new."""

    model_config = ConfigDict(extra="ignore")


class TextContent(_Item):
    """Text of the user (`input_text`), or of an earlier reply (`output_text`)."""

    type: Literal["input_text", "output_text"]
    text: str


Content = Annotated[TextContent | InputAudioPart | RefusalPart, Field(discriminator="type")]


class MessageItem(_Item):
    """A message."""

    type: Literal["message"] = "message"
    role: Literal["user", "assistant", "system", "developer"]
    content: str | list[Content]


class ItemReference(_Item):
    """A reference to the message of an earlier response, by its id."""

    type: Literal["item_reference"] = "item_reference"
    id: Name


class CallItem(_Item):
    """A call of a tool that an earlier response made."""

    type: Literal["function_call"]
    call_id: Name
    name: Name
    arguments: str = Field(description="A JSON object as text.")


class CallOutputItem(_Item):
    """The result of a call."""

    type: Literal["function_call_output"]
    call_id: Name
    output: str | list[TextContent]

    @property
    def text(self) -> str:
        """The result as text."""
        return self.output if isinstance(self.output, str) else "".join(part.text for part in self.output)


class FunctionTool(Function):
    """A function that the model may call."""

    type: Literal["function"]


def _kind_of(item: Any) -> str:
    """The type of an item. Clients may leave the type of a message and of a reference out."""
    if isinstance(item, BaseModel):
        return str(getattr(item, "type", ""))
    if not isinstance(item, dict):
        return "message"
    return str(item.get("type") or ("message" if "role" in item else "item_reference"))


Item = Annotated[
    Annotated[MessageItem, Tag("message")]
    | Annotated[ItemReference, Tag("item_reference")]
    | Annotated[CallItem, Tag("function_call")]
    | Annotated[CallOutputItem, Tag("function_call_output")],
    Discriminator(_kind_of),
]


class TextOptions(BaseModel):
    """The form of the text."""

    model_config = ConfigDict(extra="forbid")
    format: OpaqueObject | None = Field(default=None, description='Only `{"type": "text"}`.')
    verbosity: Name | None = Field(default=None, description="Without effect.")


class ResponsesRequest(BaseModel):
    """A conversation to answer with a text."""

    model_config = ConfigDict(extra="forbid")
    model: Name = Field(default="", description="Any name. There is one model.")
    input: str | list[Item] = Field(description="The user's text, or the items of the conversation.")
    instructions: str | None = Field(default=None, description="The system prompt of this response.")
    previous_response_id: Name | None = Field(
        default=None, description="The response that this one follows, for an hour after it."
    )
    max_output_tokens: MaxTokens | None = None
    stream: bool | None = False
    stream_options: OpaqueObject | None = None
    store: bool | None = Field(
        default=None, description="False: nothing is kept. Otherwise texts are kept for an hour, for later references."
    )
    metadata: Metadata | None = None

    # Accepted. They say nothing about the reply.
    user: Name | None = None
    safety_identifier: Name | None = None
    prompt_cache_key: Name | None = None
    include: list[Name] | None = Field(
        default=None, description="`message.output_text.logprobs` is refused. There is nothing else to include."
    )

    # Accepted without effect. The header x-ignored-parameters names those that ask for something.
    temperature: TemperatureOrZero | None = None
    top_p: TopP | None = None
    truncation: Literal["auto", "disabled"] | None = None
    reasoning: OpaqueObject | None = None
    service_tier: Name | None = None
    max_tool_calls: Annotated[int | None, Field(ge=1)] = None
    prompt_cache_retention: Name | None = None
    prompt_cache_options: OpaqueObject | None = None

    # Only the values that ask for nothing.
    text: TextOptions | None = None
    top_logprobs: Annotated[int | None, Field(ge=0, description="Only 0.")] = None
    background: bool | None = Field(default=None, description="Only false.")
    conversation: Annotated[Any, Field(description="Refused: send `previous_response_id` or the items.")] = None
    prompt: Annotated[Any, Field(description="Refused: there are no stored prompts.")] = None
    context_management: Annotated[Any, Field(description="Refused: the oldest turns are left out.")] = None
    moderation: Annotated[Any, Field(description="Refused: nothing is moderated.")] = None
    image: Annotated[Any, Field(description="Refused: the answer is a text.")] = None
    access_programs: Annotated[Any, Field(description="Refused: there are none.")] = None
    background_options: Annotated[Any, Field(description="Refused: this server answers at once.")] = None

    tools: list[FunctionTool] | None = Field(
        default=None, description="What the model may call. Refused where its chat template knows no tools."
    )
    tool_choice: str | dict[str, JsonValue] | None = Field(
        default=None, description="`none`, `auto`, `required`, a function or allowed tools."
    )
    parallel_tool_calls: bool | None = None

    def check(self) -> None:
        """Raise BadParameter for what a client would miss in the answer if it were ignored."""
        for field, why in _REFUSED.items():
            if getattr(self, field) is not None:
                raise BadParameter(field, f"{field}: this server does not offer it; {why}", _UNSUPPORTED)
        if self.top_logprobs or "message.output_text.logprobs" in (self.include or ()):
            field = "top_logprobs" if self.top_logprobs else "include"
            raise BadParameter(field, f"{field}: the model tells no log probabilities", _UNSUPPORTED)
        if self.background:
            raise BadParameter("background", "background: this server answers at once", _UNSUPPORTED)
        if self.conversation is not None:
            message = "conversation: there are none; send `previous_response_id`, or the items of the conversation"
            raise BadParameter("conversation", message, _UNSUPPORTED)
        if self.prompt is not None:
            raise BadParameter("prompt", "prompt: there are no stored prompts; send `instructions`", _UNSUPPORTED)
        text_format = self.text.format if self.text else None
        if text_format is not None and text_format.get("type") != "text":
            message = 'text.format: expected {"type": "text"}: the model is not held to a form of JSON'
            raise BadParameter("text.format", message, _UNSUPPORTED)
        if isinstance(self.input, list):
            parts = [item.content for item in self.input if isinstance(item, MessageItem)]
            if len(self.input) > _MAX_ITEMS or sum(len(it) for it in parts if isinstance(it, list)) > _MAX_PARTS:
                raise BadParameter("input", f"expected at most {_MAX_ITEMS} items and {_MAX_PARTS} parts, got more")

    @property
    def items(self) -> Sequence[MessageItem | ItemReference | CallItem | CallOutputItem]:
        """The items of the input. A text is a message of the user."""
        return [MessageItem(role="user", content=self.input)] if isinstance(self.input, str) else self.input

    @property
    def verbosity(self) -> str | None:
        """How long the text should be."""
        return self.text.verbosity if self.text else None

    @property
    def ignored(self) -> list[str]:
        """The fields of the request that ask for something and have no effect."""
        names = [name for name in _NO_EFFECT if getattr(self, name) not in _NEUTRAL.get(name, (None,))]
        return ["text.verbosity" if name == "verbosity" else name for name in names]
