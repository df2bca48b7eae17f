"""A Realtime session's settings: what clients may ask for, and what they are told."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from chroma.v1.audio_pb2 import AUDIO_ENCODING_PCM_S16LE, AudioFormat
from gateway.api.openai.errors import BadParameter
from gateway.audio.g711 import RATE_HZ as G711_RATE_HZ
from gateway.conversation.options import ConversationOptions
from gateway.conversation.vad import TurnDetection
from services.common.wire.audio import SAMPLE_RATE_HZ

Format = Literal["audio/pcm", "audio/pcmu", "audio/pcma"]
_BETA_FORMATS: dict[str, Format] = {"pcm16": "audio/pcm", "g711_ulaw": "audio/pcmu", "g711_alaw": "audio/pcma"}

_EAGERNESS_MS = {"low": 1_200, "medium": 600, "auto": 500, "high": 300}
"""Silence that ends a turn where a client asks for semantic turn detection: its ends are found by silence here too."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class FormatIn(_Strict):
    """A sound format."""

    type: Format = "audio/pcm"
    rate: Literal[24_000, 8_000] | None = None


class TurnDetectionIn(_Strict):
    """Turn detection."""

    type: Literal["server_vad", "semantic_vad"] = "server_vad"
    threshold: float | None = None
    prefix_padding_ms: int | None = None
    silence_duration_ms: int | None = None
    create_response: bool | None = None
    interrupt_response: bool | None = None
    eagerness: Literal["low", "medium", "high", "auto"] | None = None
    idle_timeout_ms: None = None


class InputIn(_Strict):
    """The user's side."""

    format: FormatIn | None = None
    transcription: dict[str, Any] | None = None
    noise_reduction: None = None
    turn_detection: TurnDetectionIn | Literal[False] | None = None


class OutputIn(_Strict):
    """The reply's side."""

    format: FormatIn | None = None
    voice: str | dict[Literal["id"], str] | None = None
    speed: Annotated[float | None, Field(ge=1, le=1)] = None


class AudioIn(_Strict):
    """Sound, both sides."""

    input: InputIn | None = None
    output: OutputIn | None = None


class SessionIn(_Strict):
    """What `session.update` may hold: today's fields, and the flat ones of the beta."""

    type: Literal["realtime"] | None = None
    instructions: str | None = None
    output_modalities: Annotated[list[Literal["text", "audio"]] | None, Field(min_length=1, max_length=2)] = None
    audio: AudioIn | None = None
    max_output_tokens: Annotated[int, Field(ge=1)] | Literal["inf"] | None = None
    temperature: Annotated[float | None, Field(gt=0)] = None
    tools: Annotated[list[Any] | None, Field(max_length=0)] = None
    tool_choice: Any = None
    prompt: None = None
    # Without effect here.
    model: str | None = None
    id: str | None = None
    object: str | None = None
    expires_at: int | None = None
    include: Any = None
    parallel_tool_calls: Any = None
    reasoning: Any = None
    tracing: Any = None
    truncation: Any = None
    # The beta's.
    modalities: list[Literal["text", "audio"]] | None = None
    voice: str | None = None
    input_audio_format: Literal["pcm16", "g711_ulaw", "g711_alaw"] | None = None
    output_audio_format: Literal["pcm16", "g711_ulaw", "g711_alaw"] | None = None
    input_audio_transcription: dict[str, Any] | None = None
    input_audio_noise_reduction: None = None
    turn_detection: TurnDetectionIn | None = None
    max_response_output_tokens: Annotated[int, Field(ge=1)] | Literal["inf"] | None = None
    speed: Annotated[float | None, Field(ge=1, le=1)] = None

    def in_form(self) -> SessionIn:
        """The same in today's form."""
        given = self.model_fields_set
        audio_in = self.audio.input if self.audio and self.audio.input else InputIn()
        audio_out = self.audio.output if self.audio and self.audio.output else OutputIn()
        inward = {name: getattr(audio_in, name) for name in audio_in.model_fields_set}
        outward = {name: getattr(audio_out, name) for name in audio_out.model_fields_set}
        fields = {name: getattr(self, name) for name in given}
        if self.input_audio_format:
            inward["format"] = FormatIn(type=_BETA_FORMATS[self.input_audio_format])
        if "input_audio_transcription" in given:
            inward["transcription"] = self.input_audio_transcription
        if "turn_detection" in given:
            inward["turn_detection"] = self.turn_detection
        if self.output_audio_format:
            outward["format"] = FormatIn(type=_BETA_FORMATS[self.output_audio_format])
        if self.voice:
            outward["voice"] = self.voice
        if self.modalities:
            fields["output_modalities"] = self.modalities
        if self.max_response_output_tokens:
            fields["max_output_tokens"] = self.max_response_output_tokens
        fields["audio"] = AudioIn.model_construct(
            _fields_set={"input", "output"},
            input=InputIn.model_construct(_fields_set=set(inward), **inward),
            output=OutputIn.model_construct(_fields_set=set(outward), **outward),
        )
        return SessionIn.model_construct(_fields_set={*given, "audio"}, **fields)


@dataclass(frozen=True)
class RealtimeSession:
    """The settings in use."""

    session_id: str
    model: str
    voice: str
    instructions: str = ""
    input_format: Format = "audio/pcm"
    output_format: Format = "audio/pcm"
    text_only: bool = False
    transcription: dict[str, Any] | None = None
    turn_detection: TurnDetection | None = field(default_factory=TurnDetection)
    temperature: float | None = None
    max_output_tokens: int | None = None
    """None: no limit of the client's."""

    def changed(self, wanted: SessionIn) -> RealtimeSession:
        """With the fields that are set in `wanted`. Raises InvalidArgument for turn detection that makes no sense."""
        wanted = wanted.in_form()
        given = wanted.model_fields_set
        assert wanted.audio is not None, "in_form makes one"
        assert wanted.audio.input is not None, "in_form makes one"
        assert wanted.audio.output is not None, "in_form makes one"
        inward, outward = wanted.audio.input, wanted.audio.output
        new = self
        if wanted.instructions is not None:
            new = replace(new, instructions=wanted.instructions)
        if wanted.output_modalities:
            new = replace(new, text_only="audio" not in wanted.output_modalities)
        if "max_output_tokens" in given:
            limit = wanted.max_output_tokens
            new = replace(new, max_output_tokens=limit if isinstance(limit, int) else None)
        if wanted.temperature is not None:
            new = replace(new, temperature=wanted.temperature)
        if outward.voice:
            named = outward.voice if isinstance(outward.voice, str) else outward.voice.get("id", "")
            new = replace(new, voice=named)
        if inward.format:
            new = replace(new, input_format=_checked(inward.format, "session.audio.input.format"))
        if outward.format:
            new = replace(new, output_format=_checked(outward.format, "session.audio.output.format"))
        if "transcription" in inward.model_fields_set:
            new = replace(new, transcription=inward.transcription)
        if "turn_detection" in inward.model_fields_set:
            new = replace(new, turn_detection=_detection(inward.turn_detection))
        return new

    @property
    def terms(self) -> ConversationOptions:
        """The conversation's terms."""
        rate_hz = SAMPLE_RATE_HZ if self.input_format == "audio/pcm" else G711_RATE_HZ
        return ConversationOptions(
            input_format=AudioFormat(encoding=AUDIO_ENCODING_PCM_S16LE, sample_rate_hz=rate_hz),
            turn_detection=self.turn_detection,
            transcribe=self.transcription is not None,
            text_only=self.text_only,
        )

    def to_dict(self, limit_s: float) -> dict[str, Any]:
        """The `session` object."""
        return {
            "type": "realtime",
            "object": "realtime.session",
            "id": self.session_id,
            "model": self.model,
            "output_modalities": self.modalities,
            "instructions": self.instructions,
            "tools": [],
            "tool_choice": "auto",
            "max_output_tokens": self.max_output_tokens or "inf",
            "tracing": None,
            "truncation": "auto",
            "prompt": None,
            "expires_at": int(time.time() + limit_s),
            "audio": {
                "input": {
                    "format": described_format(self.input_format),
                    "transcription": self.transcription,
                    "noise_reduction": None,
                    "turn_detection": self._described_detection(),
                },
                "output": {"format": described_format(self.output_format), "voice": self.voice, "speed": 1.0},
            },
            "include": None,
        }

    def described_flat(self, limit_s: float) -> dict[str, Any]:
        """The `session` object as the beta had it."""
        names = {new: old for old, new in _BETA_FORMATS.items()}
        return {
            "object": "realtime.session",
            "id": self.session_id,
            "model": self.model,
            "modalities": ["text"] if self.text_only else ["audio", "text"],
            "instructions": self.instructions,
            "voice": self.voice,
            "input_audio_format": names[self.input_format],
            "output_audio_format": names[self.output_format],
            "input_audio_transcription": self.transcription,
            "input_audio_noise_reduction": None,
            "turn_detection": self._described_detection(),
            "tools": [],
            "tool_choice": "auto",
            "temperature": self.temperature if self.temperature is not None else 1.0,
            "max_response_output_tokens": self.max_output_tokens or "inf",
            "speed": 1.0,
            "tracing": None,
            "expires_at": int(time.time() + limit_s),
        }

    @property
    def modalities(self) -> list[str]:
        """What replies are."""
        return ["text"] if self.text_only else ["audio"]

    def _described_detection(self) -> dict[str, Any] | None:
        if self.turn_detection is None:
            return None
        return {
            "type": "server_vad",
            "threshold": self.turn_detection.threshold,
            "prefix_padding_ms": self.turn_detection.prefix_ms,
            "silence_duration_ms": self.turn_detection.silence_ms,
            "idle_timeout_ms": None,
            "create_response": self.turn_detection.respond,
            "interrupt_response": self.turn_detection.interrupt,
        }


def described_format(name: Format) -> dict[str, Any]:
    """A sound format as JSON."""
    return {"type": name, "rate": SAMPLE_RATE_HZ} if name == "audio/pcm" else {"type": name}


def _checked(wanted: FormatIn, param: str) -> Format:
    rate_hz = SAMPLE_RATE_HZ if wanted.type == "audio/pcm" else G711_RATE_HZ
    if wanted.rate not in (None, rate_hz):
        raise BadParameter(f"{param}.rate", f"{wanted.type} has {rate_hz} samples a second here, got {wanted.rate}")
    return wanted.type


def _detection(wanted: TurnDetectionIn | Literal[False] | None) -> TurnDetection | None:
    if not wanted:
        return None
    usual = TurnDetection()
    silence_ms = wanted.silence_duration_ms
    if silence_ms is None:
        silence_ms = _EAGERNESS_MS[wanted.eagerness or "auto"]
    detection = TurnDetection(
        threshold=usual.threshold if wanted.threshold is None else wanted.threshold,
        silence_ms=silence_ms,
        prefix_ms=usual.prefix_ms if wanted.prefix_padding_ms is None else wanted.prefix_padding_ms,
        respond=wanted.create_response is not False,
        interrupt=wanted.interrupt_response is not False,
    )
    detection.check()
    return detection
