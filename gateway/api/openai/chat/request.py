"""The request of /v1/chat/completions: OpenAI's fields, and those of FlashLabs' own server."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from gateway.api.client_json import decode_base64
from gateway.api.errors import BadParameter, TooLarge
from gateway.api.fields import MaxTokens, Name, OpaqueObject
from gateway.api.tools import Function
from gateway.audio.read import MAX_FILE_BYTES
from gateway.audio.write import FileFormat
from services.common.sampling import MAX_SEED, MAX_TEMPERATURE, TopK, TopP

_UNSUPPORTED = "unsupported_value"
"""OpenAI's code for a value that this server does not offer."""

MAX_STOPS = 16

_NO_EFFECT = (
    "service_tier",
    "prompt_cache_retention",
    "prompt_cache_options",
    "frequency_penalty",
    "presence_penalty",
    "logit_bias",
    "reasoning_effort",
    "verbosity",
    "prediction",
)
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "service_tier": (None, "auto", "default"),
    "frequency_penalty": (None, 0),
    "presence_penalty": (None, 0),
    "logit_bias": (None, {}),
    "reasoning_effort": (None, "none"),
    "verbosity": (None, "medium"),
}
"""The values of a field that ask for nothing. Otherwise: null."""

_REFUSED = {
    "functions": "send `tools`, which replace it",
    "function_call": "send `tool_choice`, which replaces it",
    "moderation": "moderate the texts yourself",
    "web_search_options": "it does not search the web: send a tool of your own in `tools`, and its results",
}
"""Fields of OpenAI's that are refused, and what to do instead."""

Penalty = Annotated[float, Field(ge=-2, le=2)]

SignedSeed = Annotated[int, Field(ge=-(2**63), le=MAX_SEED)]
"""A seed as OpenAI's clients send it. A negative one stands for the unsigned number of the same 64 bits."""

TemperatureOrZero = Annotated[float, Field(ge=0, le=MAX_TEMPERATURE, allow_inf_nan=False)]
"""A `Temperature`, or 0: OpenAI's clients ask for greedy in that way."""


_MAX_PATH_CHARS = 256
"""A shorter text that begins with a slash is a path, though its characters are those of base64: no audio file is so
short."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class InputAudio(_Strict):
    """A recording."""

    data: str = Field(description="The file in base64.")
    format: Name = Field(
        default="", description="Any name, such as `wav` or `m4a`. The file itself says of which kind it is."
    )


class TextPart(_Strict):
    """Text."""

    type: Literal["text"]
    text: str


class InputAudioPart(_Strict):
    """Speech, as OpenAI's clients send it."""

    type: Literal["input_audio"]
    input_audio: InputAudio


class AudioPart(_Strict):
    """Speech, as clients of FlashLabs' own server send it."""

    type: Literal["audio"]
    audio: str = Field(description="The file in base64, or as a data URL. Never a path.")


class RefusalPart(_Strict):
    """What an assistant said instead of an answer, as OpenAI's clients send it back."""

    type: Literal["refusal"]
    refusal: str


Part = Annotated[TextPart | InputAudioPart | AudioPart | RefusalPart, Field(discriminator="type")]


class PastAudio(BaseModel):
    """An earlier spoken reply: its id, or the whole `audio` of the message that had it."""

    model_config = ConfigDict(extra="ignore")
    id: Name
    transcript: str | None = Field(default=None, description="The words of the reply. Without them the id finds them.")


class CalledFunction(BaseModel):
    """The function of a call."""

    model_config = ConfigDict(extra="ignore")
    name: Name
    arguments: str = Field(default="{}", description="A JSON object as text.")


class PastCall(BaseModel):
    """A tool call of an earlier reply."""

    model_config = ConfigDict(extra="ignore")
    id: Name
    type: Literal["function"] = "function"
    function: CalledFunction


class ChatTool(BaseModel):
    """A tool that the model may call."""

    model_config = ConfigDict(extra="ignore")
    type: Literal["function"]
    function: Function


class ChatMessage(BaseModel):
    """One message of the conversation."""

    model_config = ConfigDict(extra="ignore")
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[Part] | None = None
    audio: PastAudio | None = Field(
        default=None, description="In an assistant's message: an earlier spoken reply, by its id."
    )
    tool_calls: list[PastCall] | None = Field(
        default=None, description="In an assistant's message: the calls that it ends with."
    )
    tool_call_id: Name | None = Field(default=None, description="In a tool's message: the call that it answers.")


class AudioOptions(_Strict):
    """How the reply is spoken."""

    voice: Name | dict[Literal["id"], Name] = Field(default="", description="As in /v1/audio/speech.")
    format: FileFormat = "wav"


class StreamOptions(BaseModel):
    """How the reply is streamed."""

    model_config = ConfigDict(extra="ignore")
    include_usage: bool = False


class ChatRequest(_Strict):
    """A conversation to answer."""

    model: Name = Field(default="", description="Any name. There is one model.")
    messages: Annotated[list[ChatMessage], Field(min_length=1, description="The reply follows the last message.")]
    modalities: Annotated[list[Literal["text", "audio"]], Field(max_length=2)] | None = Field(
        default=None, description="`text` alone gives a reply that is not spoken."
    )
    audio: AudioOptions | None = None
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    stop: str | Annotated[list[str], Field(max_length=MAX_STOPS)] | None = Field(
        default=None,
        description="The reply ends before the first of these texts, its speech with the last whole token before it.",
    )
    temperature: Annotated[TemperatureOrZero | None, Field(description="How much the speech varies. 0: greedy.")] = None
    top_p: TopP | None = None
    top_k: Annotated[TopK | None, Field(description="An extension.")] = None
    seed: Annotated[
        SignedSeed | None, Field(description="The same seed gives the same speech. The text is the same without one.")
    ] = None
    max_tokens: Annotated[
        MaxTokens | None,
        Field(description="Limit of the reply in tokens: those of its text, and one for each 80 ms of speech."),
    ] = None
    max_completion_tokens: Annotated[
        MaxTokens | None, Field(description="As `max_tokens`, which it replaces if both are set.")
    ] = None
    store: bool | None = Field(
        default=None,
        description="False: the text of a spoken reply is not kept for an hour, so its `audio.id` has no use later.",
    )
    n: Annotated[int | None, Field(ge=1, description="Only 1.")] = None
    tools: list[ChatTool] | None = Field(
        default=None, description="What the model may call. Refused where its chat template knows no tools."
    )
    tool_choice: str | dict[str, JsonValue] | None = Field(
        default=None, description="`none`, `auto`, `required`, a function or allowed tools."
    )
    parallel_tool_calls: bool | None = Field(default=None, description="False: the reply ends with its first call.")

    prompt_text: str | None = Field(default=None, description="The words of `prompt_audio`.")
    prompt_audio: str | None = Field(
        default=None, description="A voice for this reply alone: a recording in base64, or as a data URL."
    )
    prompt_consent: str | None = Field(
        default=None, description="Required with `prompt_audio`: who agreed to the cloning of this voice, and how."
    )
    prompt_consent_subject: str | None = Field(default=None, description="The person who agreed.")
    return_audio: bool | None = Field(default=None, description="Whether the response holds `audio`, a file in base64.")
    audio_format: FileFormat | None = Field(default=None, description="Format of that file. Unset: wav.")

    # Accepted. They say nothing about the reply.
    user: Name | None = None
    metadata: OpaqueObject | None = None
    safety_identifier: Name | None = None
    prompt_cache_key: Name | None = None

    # Accepted without effect. The header x-ignored-parameters names those that ask for something.
    service_tier: Name | None = None
    prompt_cache_retention: Name | None = None
    prompt_cache_options: OpaqueObject | None = None
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None
    logit_bias: OpaqueObject | None = None
    reasoning_effort: Name | None = None
    verbosity: Name | None = None
    prediction: OpaqueObject | None = None

    # Only the values that ask for nothing.
    logprobs: bool | None = Field(default=None, description="Only false.")
    top_logprobs: Annotated[int | None, Field(ge=0, description="Only 0.")] = None
    response_format: OpaqueObject | None = Field(default=None, description='Only `{"type": "text"}`.')

    # Refused, with what to send instead.
    functions: Annotated[Any, Field(description="Refused: send `tools`, which replace them.")] = None
    function_call: Annotated[Any, Field(description="Refused: send `tool_choice`, which replaces it.")] = None
    moderation: Annotated[Any, Field(description="Refused: nothing is moderated.")] = None
    web_search_options: Annotated[Any, Field(description="Refused: the server does not search the web.")] = None

    def check(self) -> None:
        """Raise BadParameter for what a client would miss in the answer if it were ignored."""
        for field, why in _REFUSED.items():
            if getattr(self, field) is not None:
                raise BadParameter(field, f"{field}: this server does not offer it; {why}", _UNSUPPORTED)
        if self.n not in (None, 1):
            raise BadParameter("n", f"n: expected 1, got {self.n}: there is one reply to a request", _UNSUPPORTED)
        if self.logprobs or self.top_logprobs:
            field = "logprobs" if self.logprobs else "top_logprobs"
            raise BadParameter(field, f"{field}: the model tells no log probabilities", _UNSUPPORTED)
        if self.response_format is not None and self.response_format.get("type") != "text":
            message = 'response_format: expected {"type": "text"}: the model is not held to a form of JSON'
            raise BadParameter("response_format", message, _UNSUPPORTED)

    @property
    def stops(self) -> tuple[str, ...]:
        """The texts before which the reply ends."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())

    @property
    def ignored(self) -> list[str]:
        """The fields of the request that ask for something and have no effect. The text of a reply is not sampled."""
        unsampled = () if self.spoken else ("temperature", "top_p", "top_k", "seed")
        return [name for name in (*unsampled, *_NO_EFFECT) if getattr(self, name) not in _NEUTRAL.get(name, (None,))]

    @property
    def is_flashlabs_form(self) -> bool:
        """Whether the request has the form of FlashLabs' own server, which asks for audio and returns it in fields of
        its own."""
        return any(field is not None for field in (self.prompt_audio, self.return_audio, self.audio_format))

    @property
    def spoken(self) -> bool:
        """Whether the client wants a spoken reply."""
        if self.modalities is not None:
            return "audio" in self.modalities
        return self.audio is not None or (self.is_flashlabs_form and self.return_audio is not False)

    @property
    def file_format(self) -> FileFormat:
        """Format of the audio file in the response."""
        if self.audio is not None:
            return self.audio.format
        return self.audio_format or "wav"

    @property
    def voice(self) -> str:
        """Id of the voice that the request names; empty if it names none."""
        named = self.audio.voice if self.audio is not None else ""
        return named if isinstance(named, str) else named.get("id", "")


async def decode_recording(data: str, param: str) -> bytes:
    """Return the file that `data` holds, as base64 or as a data URL. `param` names the field in errors.

    Raises BadParameter for anything else, such as a path, and TooLarge for a file of more than MAX_FILE_BYTES.
    """
    if data.startswith("/") and len(data) < _MAX_PATH_CHARS:
        raise BadParameter(
            param, f"{param}: expected a file in base64, got a path; the server reads no paths and no URLs"
        )
    file = await decode_base64(data, param, "a file")
    if len(file) > MAX_FILE_BYTES:
        raise TooLarge(param, f"{param}: expected a file of at most {MAX_FILE_BYTES} bytes, got {len(file)}")
    return file
