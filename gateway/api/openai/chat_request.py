"""The request of /v1/chat/completions: OpenAI's fields, and those of FlashLabs' own server."""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from gateway.api.errors import BadParameter, TooLarge
from gateway.audio.read import MAX_FILE_BYTES
from gateway.audio.write import FileFormat
from services.common.sampling import Seed, TopK, TopP

TemperatureOrZero = Annotated[float, Field(ge=0, allow_inf_nan=False)]
"""A `Temperature`, or 0: OpenAI's clients ask for greedy in that way."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class InputAudio(_Strict):
    """A recording."""

    data: str = Field(description="The file in base64.")
    format: Literal["wav", "mp3", "flac", "ogg"] = "wav"


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
    audio: str = Field(description="The file in base64, or as a data URI. Never a path.")


class PastAudio(_Strict):
    """A reference to an earlier spoken reply."""

    id: str


class ChatMessage(BaseModel):
    """One message of the conversation."""

    model_config = ConfigDict(extra="ignore")
    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[Annotated[TextPart | InputAudioPart | AudioPart, Field(discriminator="type")]] | None = None
    audio: PastAudio | None = Field(
        default=None, description="In an assistant's message: an earlier spoken reply, by its id."
    )


class AudioOptions(_Strict):
    """How the reply is spoken."""

    voice: str | dict[str, str] = Field(default="", description="As in /v1/audio/speech.")
    format: FileFormat = "wav"


class StreamOptions(BaseModel):
    """How the reply is streamed."""

    model_config = ConfigDict(extra="ignore")
    include_usage: bool = False


class ChatRequest(_Strict):
    """A conversation to answer."""

    model: str = Field(default="", description="Any name. There is one model.")
    messages: Annotated[list[ChatMessage], Field(min_length=1, description="The last message is the user's.")]
    modalities: list[Literal["text", "audio"]] | None = Field(
        default=None, description="`text` alone gives a reply that is not spoken."
    )
    audio: AudioOptions | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None
    temperature: Annotated[TemperatureOrZero | None, Field(description="How much the speech varies. 0: greedy.")] = None
    top_p: TopP | None = None
    top_k: Annotated[TopK | None, Field(description="An extension.")] = None
    seed: Seed | None = None
    max_tokens: Annotated[
        int | None, Field(ge=1, description="Limit of the reply in frames of speech, 80 ms each.")
    ] = None
    max_completion_tokens: Annotated[
        int | None, Field(ge=1, description="As `max_tokens`, which it replaces if both are set.")
    ] = None
    n: Annotated[int, Field(ge=1, le=1, description="Only 1.")] = 1

    prompt_text: str | None = Field(default=None, description="The words of `prompt_audio`.")
    prompt_audio: str | None = Field(
        default=None, description="A voice for this reply alone: a recording in base64, or as a data URI."
    )
    return_audio: bool | None = Field(default=None, description="Whether the response holds `audio`, a file in base64.")
    audio_format: FileFormat | None = Field(default=None, description="Format of that file. Unset: wav.")

    # Accepted, without effect on the reply.
    user: str | None = None
    metadata: dict[str, Any] | None = None
    store: bool | None = None
    service_tier: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    parallel_tool_calls: bool | None = None
    frequency_penalty: Annotated[float | None, Field(ge=0, le=0)] = None
    presence_penalty: Annotated[float | None, Field(ge=0, le=0)] = None
    tools: Annotated[list[Any] | None, Field(max_length=0, description="Tools are not supported.")] = None
    tool_choice: Literal["none", "auto"] | None = None
    response_format: dict[Literal["type"], Literal["text"]] | None = None

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


def decode_recording(data: str, param: str) -> bytes:
    """Return the file that `data` holds, as base64 or as a data URI. `param` names the field in errors.

    Raises BadParameter for anything else, such as a path, and TooLarge for a file of more than MAX_FILE_BYTES.
    """
    if data.startswith("data:"):
        data = data.partition(",")[2]
    try:
        file = base64.b64decode(data, validate=True)
    except binascii.Error:
        raise BadParameter(
            param, f"{param}: expected a file in base64, got something else; the server reads no paths and no URLs"
        ) from None
    if len(file) > MAX_FILE_BYTES:
        raise TooLarge(param, f"{param}: expected a file of at most {MAX_FILE_BYTES} bytes, got {len(file)}")
    return file
