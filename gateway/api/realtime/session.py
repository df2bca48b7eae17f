"""Settings of a Realtime session: what clients may send, the settings in use, and the `session` object."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from chroma.v1.audio_pb2 import AUDIO_ENCODING_PCM_S16LE, AudioFormat
from gateway.api.errors import BadParameter
from gateway.audio.g711 import RATE_HZ as G711_RATE_HZ
from gateway.conversation.options import ConversationOptions
from gateway.conversation.vad import TurnDetection
from services.common.sampling import Temperature
from services.common.wire.audio import SAMPLE_RATE_HZ

Format = Literal["audio/pcm", "audio/pcmu", "audio/pcma"]
_BETA_FORMATS: dict[str, Format] = {"pcm16": "audio/pcm", "g711_ulaw": "audio/pcmu", "g711_alaw": "audio/pcma"}

_EAGERNESS_MS = {"low": 1_200, "medium": 600, "auto": 500, "high": 300}
"""Milliseconds of silence that end a turn when a client asks for `semantic_vad`: there is no semantic detector here."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class FormatIn(_Strict):
    """An audio format."""

    type: Format = "audio/pcm"
    rate: Literal[24_000, 8_000] | None = None


class TurnDetectionIn(_Strict):
    """Turn detection settings. `null` or `false` in their place turns detection off."""

    type: Literal["server_vad", "semantic_vad"] = "server_vad"
    threshold: float | None = None
    prefix_padding_ms: int | None = None
    silence_duration_ms: int | None = None
    create_response: bool | None = None
    interrupt_response: bool | None = None
    eagerness: Literal["low", "medium", "high", "auto"] | None = None
    idle_timeout_ms: None = None


class InputIn(_Strict):
    """Settings of the user's audio."""

    format: FormatIn | None = None
    transcription: dict[str, Any] | None = None
    noise_reduction: None = None
    turn_detection: TurnDetectionIn | Literal[False] | None = None


class OutputIn(_Strict):
    """Settings of the reply's audio."""

    format: FormatIn | None = None
    voice: str | dict[Literal["id"], str] | None = None
    speed: Annotated[float | None, Field(ge=1, le=1)] = None


class AudioIn(_Strict):
    """Audio settings of both sides."""

    input: InputIn | None = None
    output: OutputIn | None = None


class SessionIn(_Strict):
    """The fields of `session.update`: the current ones, and the flat ones of the beta."""

    type: Literal["realtime"] | None = None
    instructions: str | None = None
    output_modalities: Annotated[list[Literal["text", "audio"]] | None, Field(min_length=1, max_length=2)] = None
    audio: AudioIn | None = None
    max_output_tokens: Annotated[int, Field(ge=1)] | Literal["inf"] | None = None
    temperature: Temperature | None = None
    tools: Annotated[list[Any] | None, Field(max_length=0)] = None
    tool_choice: Any = None
    prompt: None = None
    # Accepted, without effect.
    model: str | None = None
    id: str | None = None
    object: str | None = None
    expires_at: int | None = None
    include: Any = None
    parallel_tool_calls: Any = None
    reasoning: Any = None
    tracing: Any = None
    truncation: Any = None
    # Fields of the beta.
    modalities: list[Literal["text", "audio"]] | None = None
    voice: str | None = None
    input_audio_format: Literal["pcm16", "g711_ulaw", "g711_alaw"] | None = None
    output_audio_format: Literal["pcm16", "g711_ulaw", "g711_alaw"] | None = None
    input_audio_transcription: dict[str, Any] | None = None
    input_audio_noise_reduction: None = None
    turn_detection: TurnDetectionIn | None = None
    max_response_output_tokens: Annotated[int, Field(ge=1)] | Literal["inf"] | None = None
    speed: Annotated[float | None, Field(ge=1, le=1)] = None

    def normalized(self) -> SessionIn:
        """Return the same settings with the beta's fields moved to the current ones. `audio` has both sides set."""
        sent = self.model_fields_set
        audio_in = self.audio.input if self.audio and self.audio.input else InputIn()
        audio_out = self.audio.output if self.audio and self.audio.output else OutputIn()
        audio_in_fields = {name: getattr(audio_in, name) for name in audio_in.model_fields_set}
        audio_out_fields = {name: getattr(audio_out, name) for name in audio_out.model_fields_set}
        fields = {name: getattr(self, name) for name in sent}
        if self.input_audio_format:
            audio_in_fields["format"] = FormatIn(type=_BETA_FORMATS[self.input_audio_format])
        if "input_audio_transcription" in sent:
            audio_in_fields["transcription"] = self.input_audio_transcription
        if "turn_detection" in sent:
            audio_in_fields["turn_detection"] = self.turn_detection
        if self.output_audio_format:
            audio_out_fields["format"] = FormatIn(type=_BETA_FORMATS[self.output_audio_format])
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
    """As the client sent it. None: no transcription."""
    turn_detection: TurnDetection | None = field(default_factory=TurnDetection)
    """None: the client commits its turns."""
    temperature: float | None = None
    """None: the checkpoint's default."""
    max_output_tokens: int | None = None
    """Frames of speech in a reply. None: the client sets no limit."""

    def updated(self, update: SessionIn) -> RealtimeSession:
        """Return these settings with the fields that are set in `update`.

        Raises InvalidArgument for turn detection values out of range, BadParameter for a wrong sample rate.
        """
        update = update.normalized()
        assert update.audio is not None, "normalized() sets it"
        assert update.audio.input is not None, "normalized() sets it"
        assert update.audio.output is not None, "normalized() sets it"
        audio_in, audio_out = update.audio.input, update.audio.output
        new = self
        if update.instructions is not None:
            new = replace(new, instructions=update.instructions)
        if update.output_modalities:
            new = replace(new, text_only="audio" not in update.output_modalities)
        if "max_output_tokens" in update.model_fields_set:
            limit = update.max_output_tokens
            new = replace(new, max_output_tokens=limit if isinstance(limit, int) else None)
        if update.temperature is not None:
            new = replace(new, temperature=update.temperature)
        if audio_out.voice:
            voice = audio_out.voice if isinstance(audio_out.voice, str) else audio_out.voice.get("id", "")
            new = replace(new, voice=voice)
        if audio_in.format:
            new = replace(new, input_format=_checked_format(audio_in.format, "session.audio.input.format"))
        if audio_out.format:
            new = replace(new, output_format=_checked_format(audio_out.format, "session.audio.output.format"))
        if "transcription" in audio_in.model_fields_set:
            new = replace(new, transcription=audio_in.transcription)
        if "turn_detection" in audio_in.model_fields_set:
            new = replace(new, turn_detection=_turn_detection(audio_in.turn_detection))
        return new

    @property
    def options(self) -> ConversationOptions:
        """The options of the conversation behind the session."""
        rate_hz = SAMPLE_RATE_HZ if self.input_format == "audio/pcm" else G711_RATE_HZ
        return ConversationOptions(
            input_format=AudioFormat(encoding=AUDIO_ENCODING_PCM_S16LE, sample_rate_hz=rate_hz),
            turn_detection=self.turn_detection,
            transcribe=self.transcription is not None,
            text_only=self.text_only,
        )

    @property
    def modalities(self) -> list[str]:
        """The `output_modalities` of replies."""
        return ["text"] if self.text_only else ["audio"]

    def to_dict(self, limit_s: float) -> dict[str, Any]:
        """Return the `session` object. `limit_s`: seconds until the gateway ends the connection."""
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
                    "format": format_dict(self.input_format),
                    "transcription": self.transcription,
                    "noise_reduction": None,
                    "turn_detection": self._turn_detection_dict(),
                },
                "output": {"format": format_dict(self.output_format), "voice": self.voice, "speed": 1.0},
            },
            "include": None,
        }

    def to_beta_dict(self, limit_s: float) -> dict[str, Any]:
        """Return the `session` object with the flat fields of the beta."""
        beta_formats = {current: beta for beta, current in _BETA_FORMATS.items()}
        return {
            "object": "realtime.session",
            "id": self.session_id,
            "model": self.model,
            "modalities": ["text"] if self.text_only else ["audio", "text"],
            "instructions": self.instructions,
            "voice": self.voice,
            "input_audio_format": beta_formats[self.input_format],
            "output_audio_format": beta_formats[self.output_format],
            "input_audio_transcription": self.transcription,
            "input_audio_noise_reduction": None,
            "turn_detection": self._turn_detection_dict(),
            "tools": [],
            "tool_choice": "auto",
            "temperature": self.temperature if self.temperature is not None else 1.0,
            "max_response_output_tokens": self.max_output_tokens or "inf",
            "speed": 1.0,
            "tracing": None,
            "expires_at": int(time.time() + limit_s),
        }

    def _turn_detection_dict(self) -> dict[str, Any] | None:
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


def format_dict(audio_format: Format) -> dict[str, Any]:
    """Return an audio format as JSON."""
    return {"type": audio_format, "rate": SAMPLE_RATE_HZ} if audio_format == "audio/pcm" else {"type": audio_format}


def _checked_format(audio_format: FormatIn, param: str) -> Format:
    rate_hz = SAMPLE_RATE_HZ if audio_format.type == "audio/pcm" else G711_RATE_HZ
    if audio_format.rate not in (None, rate_hz):
        message = f"{audio_format.type} has {rate_hz} samples a second here, got {audio_format.rate}"
        raise BadParameter(f"{param}.rate", message)
    return audio_format.type


def _turn_detection(settings: TurnDetectionIn | Literal[False] | None) -> TurnDetection | None:
    if not settings:
        return None
    defaults = TurnDetection()
    silence_ms = settings.silence_duration_ms
    if silence_ms is None:
        silence_ms = _EAGERNESS_MS[settings.eagerness or "auto"]
    detection = TurnDetection(
        threshold=defaults.threshold if settings.threshold is None else settings.threshold,
        silence_ms=silence_ms,
        prefix_ms=defaults.prefix_ms if settings.prefix_padding_ms is None else settings.prefix_padding_ms,
        respond=settings.create_response is not False,
        interrupt=settings.interrupt_response is not False,
    )
    detection.check()
    return detection
