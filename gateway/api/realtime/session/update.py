"""The settings that a client sends: `session.update`, `transcription_session.update`, the session of a client secret.

The models hold the fields that have an effect. Every other field is ignored: fields of OpenAI's specification that
this server cannot honour, and unknown ones. So no such field keeps the others from being applied.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, cast, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue

from gateway.api.fields import MaxTokens, Milliseconds, Name
from gateway.api.tools import Function
from gateway.audio.resample import MAX_RATE_HZ, MIN_RATE_HZ
from services.common.sampling import Temperature

Modalities = Annotated[list[Literal["text", "audio"]], Field(min_length=1, max_length=2)]
"""What a reply consists of: text alone, or speech with its text."""

SessionType = Literal["realtime", "transcription"]
"""A conversation, or transcripts of the user's speech without replies."""

Encoding = Literal["audio/pcm", "audio/pcmu", "audio/pcma"]
BetaFormat = Literal["pcm16", "g711_ulaw", "g711_alaw"]
BETA_FORMATS: dict[BetaFormat, Encoding] = {"pcm16": "audio/pcm", "g711_ulaw": "audio/pcmu", "g711_alaw": "audio/pcma"}

_IN_FORCE: dict[str, tuple[Any, ...]] = {
    "truncation": ("auto",),
    "speed": (1, 1.0),
    "include": ([],),
}
"""Fields that are ignored, with the values that are in force all the same."""

_ECHOED = {"id", "object", "expires_at", "client_secret"}
"""Fields of the `session` object that clients send back with it."""


class _Settings(BaseModel):
    model_config = ConfigDict(extra="ignore")


class FormatIn(_Settings):
    """An audio format."""

    type: Encoding = "audio/pcm"
    rate: Annotated[int, Field(ge=MIN_RATE_HZ, le=MAX_RATE_HZ)] | None = None


def _named_format(value: Any) -> Any:
    """A format that is given by its name alone, as in the beta."""
    return {"type": BETA_FORMATS.get(cast(BetaFormat, value), value)} if isinstance(value, str) else value


FormatOrName = Annotated[FormatIn, BeforeValidator(_named_format)]


class TurnDetectionIn(_Settings):
    """Turn detection settings. `null` or `false` in their place turns detection off."""

    type: Literal["server_vad", "semantic_vad"] = "server_vad"
    threshold: Annotated[float, Field(ge=0, le=1)] | None = None
    prefix_padding_ms: Milliseconds | None = None
    silence_duration_ms: Milliseconds | None = None
    min_speech_duration_ms: Milliseconds | None = None
    """An extension: a sound with less speech starts no turn and interrupts no reply."""
    create_response: bool | None = None
    interrupt_response: bool | None = None
    eagerness: Literal["low", "medium", "high", "auto"] | None = None
    ignore_echo: bool | None = None
    """An extension: whether sounds that are like the speech being played start no turn."""


class TranscriptionIn(_Settings):
    """Whether the user's speech is transcribed. The model is any name, and is shown as it was sent."""

    model: Name | None = None


class InputIn(_Settings):
    """Settings of the user's audio."""

    format: FormatOrName | None = None
    transcription: TranscriptionIn | None = None
    turn_detection: TurnDetectionIn | Literal[False] | None = None


class OutputIn(_Settings):
    """Settings of the reply's audio."""

    format: FormatOrName | None = None
    voice: Name | dict[Literal["id"], Name] | None = None


class AudioIn(_Settings):
    """Audio settings of both sides."""

    input: InputIn | None = None
    output: OutputIn | None = None


class ToolIn(_Settings):
    """A tool. Functions alone have an effect."""

    type: Name = "function"
    name: str = ""
    description: str | None = None
    parameters: dict[str, JsonValue] | None = None

    @property
    def is_function(self) -> bool:
        """Whether the tool is a function, and not a server of the Model Context Protocol or another kind."""
        return self.type == "function"

    @property
    def function(self) -> Function:
        """The function that the tool is."""
        return Function(name=self.name, description=self.description, parameters=self.parameters)


class SessionIn(_Settings):
    """The fields of a session: the current ones, and the flat ones of the beta."""

    type: SessionType | None = None
    model: Name | None = None
    """Any name. There is one model."""
    instructions: str | None = None
    output_modalities: Modalities | None = None
    audio: AudioIn | None = None
    max_output_tokens: MaxTokens | Literal["inf"] | None = None
    temperature: Temperature | None = None
    tools: list[ToolIn] | None = None
    tool_choice: str | dict[str, JsonValue] | None = None
    parallel_tool_calls: bool | None = None
    store: bool | None = None
    """An extension. False: nothing of the session is stored."""
    # Fields of the beta.
    modalities: Modalities | None = None
    voice: Name | None = None
    input_audio_format: BetaFormat | None = None
    output_audio_format: BetaFormat | None = None
    input_audio_transcription: TranscriptionIn | None = None
    turn_detection: TurnDetectionIn | Literal[False] | None = None
    max_response_output_tokens: MaxTokens | Literal["inf"] | None = None

    def normalized(self) -> SessionIn:
        """Return the same settings with the beta's fields moved to the current ones. `audio` has both sides set."""
        sent = self.model_fields_set
        audio_in = self.audio.input if self.audio and self.audio.input else InputIn()
        audio_out = self.audio.output if self.audio and self.audio.output else OutputIn()
        audio_in_fields = {name: getattr(audio_in, name) for name in audio_in.model_fields_set}
        audio_out_fields = {name: getattr(audio_out, name) for name in audio_out.model_fields_set}
        fields = {name: getattr(self, name) for name in sent}
        if self.input_audio_format:
            audio_in_fields["format"] = FormatIn(type=BETA_FORMATS[self.input_audio_format])
        if "input_audio_transcription" in sent:
            audio_in_fields["transcription"] = self.input_audio_transcription
        if "turn_detection" in sent:
            audio_in_fields["turn_detection"] = self.turn_detection
        if self.output_audio_format:
            audio_out_fields["format"] = FormatIn(type=BETA_FORMATS[self.output_audio_format])
        if self.voice:
            audio_out_fields["voice"] = self.voice
        if self.modalities:
            fields["output_modalities"] = self.modalities
        if self.max_response_output_tokens:
            fields["max_output_tokens"] = self.max_response_output_tokens
        fields["audio"] = AudioIn.model_construct(
            _fields_set={"input", "output"},
            input=InputIn.model_construct(_fields_set=set(audio_in_fields), **audio_in_fields),
            output=OutputIn.model_construct(_fields_set=set(audio_out_fields), **audio_out_fields),
        )
        return SessionIn.model_construct(_fields_set=set(fields), **fields)

    @property
    def input_format_field(self) -> str:
        """The name of the field that names the format of the user's audio."""
        return "input_audio_format" if self.input_audio_format else "audio.input.format"

    @property
    def voice_field(self) -> str:
        """The name of the field that names the voice."""
        return "voice" if self.voice else "audio.output.voice"

    @property
    def transcription_field(self) -> str:
        """The name of the field that asks for transcripts. Empty: none does."""
        if self.input_audio_transcription is not None:
            return "input_audio_transcription"
        is_asked = (
            self.audio is not None and self.audio.input is not None and self.audio.input.transcription is not None
        )
        return "audio.input.transcription" if is_asked else ""


def ignored_fields(value: object, model: type[BaseModel], where: str) -> list[str]:
    """Return the names of the fields in `value`, which is JSON, that `model` does not read, each after `where`.

    A field whose value is in force without it is not among them.
    """
    if not isinstance(value, dict):
        return []
    names: list[str] = []
    for name, inner in cast(dict[str, object], value).items():
        field = model.model_fields.get(name)
        if field is None:
            if inner is not None and inner not in _IN_FORCE.get(name, ()) and name not in _ECHOED:
                names.append(f"{where}.{name}"[:200])
            continue
        for part in _models_in(field.annotation):
            names += ignored_fields(inner, part, f"{where}.{name}")
    return names


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    """The models that a field of this type may hold."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models_in(part)]
