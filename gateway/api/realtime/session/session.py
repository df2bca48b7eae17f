"""The settings of a Realtime session that are in use, and the `session` object that shows them."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from chroma.v1.audio_pb2 import AUDIO_ENCODING_PCM_S16LE, AudioFormat
from gateway.api.errors import BadParameter
from gateway.api.realtime.session.tools import SessionTools
from gateway.api.realtime.session.update import (
    BETA_FORMATS,
    Encoding,
    FormatIn,
    SessionIn,
    SessionType,
    TranscriptionIn,
    TurnDetectionIn,
)
from gateway.audio.g711 import RATE_HZ as G711_RATE_HZ
from gateway.conversation.options import ConversationOptions
from gateway.conversation.vad import MAX_MS, MAX_SPEECH_MS, MIN_SILENCE_MS, TurnDetection
from services.common.wire.audio import SAMPLE_RATE_HZ

_EAGERNESS_MS = {"low": 1_200, "medium": 600, "auto": 500, "high": 300}
"""Milliseconds of silence that end a turn when a client asks for `semantic_vad`: there is no semantic detector here."""

_LEAST_THRESHOLD = 0.01
"""What a threshold of 0 means: turn detection needs one above 0. So 1 means this much below 1."""


@dataclass(frozen=True)
class Format:
    """A format of audio, mono."""

    encoding: Encoding = "audio/pcm"
    rate_hz: int = SAMPLE_RATE_HZ

    def to_dict(self) -> dict[str, Any]:
        """Return the format as JSON."""
        if self.encoding == "audio/pcm":
            return {"type": self.encoding, "rate": self.rate_hz}
        return {"type": self.encoding}

    @property
    def beta_name(self) -> str:
        """The format's name in the beta, which has no rates."""
        return next(name for name, encoding in BETA_FORMATS.items() if encoding == self.encoding)


@dataclass(frozen=True)
class RealtimeSession:
    """The settings in use."""

    session_id: str
    model: str
    voice: str
    instructions: str = ""
    type: SessionType = "realtime"
    input_format: Format = Format()
    output_format: Format = Format()
    text_only: bool = False
    transcription: dict[str, Any] | None = None
    """The `transcription` object: the model's name, if the client gave one. None: no transcription."""
    can_transcribe: bool = True
    """Whether this server transcribes the user's speech."""
    turn_detection: TurnDetection | None = field(default_factory=TurnDetection)
    """None: the client commits its turns."""
    temperature: float | None = None
    """None: the checkpoint's default."""
    max_output_tokens: int | None = None
    """Most tokens of a reply: its text's tokens and its frames of speech. None: the client sets no limit."""
    tools: SessionTools = field(default_factory=SessionTools)
    can_use_tools: bool = True
    """Whether the model's chat template knows tools. If not, the session has none."""
    store: bool = True
    """Whether the session is stored, so that another connection can continue it."""

    def updated(self, update: SessionIn, where: str = "session") -> RealtimeSession:
        """Return these settings with the fields that are set in `update`, which is the field `where` of its event.

        Raises BadParameter for a sample rate that the encoding cannot have, for `store` set to true after it was
        false, and for a transcription session where the server does not transcribe.
        """
        update = update.normalized()
        assert update.audio is not None, "normalized() sets it"
        assert update.audio.input is not None, "normalized() sets it"
        assert update.audio.output is not None, "normalized() sets it"
        audio_in, audio_out = update.audio.input, update.audio.output
        new = self
        if update.type is not None:
            new = replace(new, type=update.type)
        if update.instructions is not None:
            new = replace(new, instructions=update.instructions)
        if update.output_modalities:
            new = replace(new, text_only="audio" not in update.output_modalities)
        if "max_output_tokens" in update.model_fields_set:
            limit = update.max_output_tokens
            new = replace(new, max_output_tokens=limit if isinstance(limit, int) else None)
        if update.temperature is not None:
            new = replace(new, temperature=update.temperature)
        if self.can_use_tools:
            new = replace(new, tools=self.tools.updated(update))
        if update.store and not self.store:
            raise BadParameter(f"{where}.store", "a session that is not stored cannot be stored later")
        if update.store is not None:
            new = replace(new, store=update.store)
        if audio_out.voice:
            voice = audio_out.voice if isinstance(audio_out.voice, str) else audio_out.voice.get("id", "")
            new = replace(new, voice=voice)
        if audio_in.format:
            new = replace(new, input_format=_format(audio_in.format, f"{where}.audio.input.format"))
        if audio_out.format:
            new = replace(new, output_format=_format(audio_out.format, f"{where}.audio.output.format"))
        if "transcription" in audio_in.model_fields_set:
            new = replace(new, transcription=self._transcription(audio_in.transcription))
        if "turn_detection" in audio_in.model_fields_set:
            new = replace(new, turn_detection=_turn_detection(audio_in.turn_detection))
        if new.type == "transcription":
            if not self.can_transcribe:
                message = f"{where}.type: this server does not transcribe: CHROMA_TRANSCRIBE is off"
                raise BadParameter(f"{where}.type", message, "invalid_value")
            new = replace(new, transcription=new.transcription or {})
        return new

    def _transcription(self, wanted: TranscriptionIn | None) -> dict[str, Any] | None:
        if wanted is None or not self.can_transcribe:
            return None
        return {"model": wanted.model} if wanted.model is not None else {}

    @property
    def options(self) -> ConversationOptions:
        """The options of the conversation behind the session."""
        turn_detection = self.turn_detection
        if turn_detection is not None and self.type == "transcription":
            turn_detection = replace(turn_detection, respond=False)
        return ConversationOptions(
            input_format=AudioFormat(encoding=AUDIO_ENCODING_PCM_S16LE, sample_rate_hz=self.input_format.rate_hz),
            turn_detection=turn_detection,
            transcribe_recordings=self.transcription is not None,
            replies=self.type == "realtime",
            text_only=self.text_only,
            max_output_tokens=self.max_output_tokens,
        )

    @property
    def modalities(self) -> list[str]:
        """The `output_modalities` of replies."""
        return ["text"] if self.text_only else ["audio"]

    def to_dict(self, limit_s: float) -> dict[str, Any]:
        """Return the `session` object. `limit_s`: seconds until the gateway ends the connection."""
        audio_in = {
            "format": self.input_format.to_dict(),
            "transcription": self.transcription,
            "noise_reduction": None,
            "turn_detection": self._turn_detection_dict(),
        }
        head = {"type": self.type, "id": self.session_id, "expires_at": int(time.time() + limit_s), "include": None}
        if self.type == "transcription":
            return {**head, "object": "realtime.transcription_session", "audio": {"input": audio_in}}
        audio_out = {"format": self.output_format.to_dict(), "voice": self.voice, "speed": 1.0}
        return {
            **head,
            "object": "realtime.session",
            "model": self.model,
            "output_modalities": self.modalities,
            "instructions": self.instructions,
            **self.tools.to_dict(),
            "max_output_tokens": self.max_output_tokens or "inf",
            "tracing": None,
            "truncation": "auto",
            "prompt": None,
            "audio": {"input": audio_in, "output": audio_out},
            **self._extensions(),
        }

    def to_beta_dict(self, limit_s: float) -> dict[str, Any]:
        """Return the `session` object with the flat fields of the beta."""
        audio_in = {
            "input_audio_format": self.input_format.beta_name,
            "input_audio_transcription": self.transcription,
            "input_audio_noise_reduction": None,
            "turn_detection": self._turn_detection_dict(),
        }
        head = {"id": self.session_id, "expires_at": int(time.time() + limit_s)}
        if self.type == "transcription":
            return {**head, "object": "realtime.transcription_session", "modalities": ["text"], **audio_in}
        return {
            **head,
            "object": "realtime.session",
            "model": self.model,
            "modalities": ["text"] if self.text_only else ["audio", "text"],
            "instructions": self.instructions,
            "voice": self.voice,
            **audio_in,
            "output_audio_format": self.output_format.beta_name,
            **self.tools.to_dict(),
            "temperature": self.temperature if self.temperature is not None else 1.0,
            "max_response_output_tokens": self.max_output_tokens or "inf",
            "speed": 1.0,
            "tracing": None,
            **self._extensions(),
        }

    def _extensions(self) -> dict[str, Any]:
        """The fields of our own, where they are not as by default."""
        temperature = {} if self.temperature is None else {"temperature": self.temperature}
        return {**temperature, **({} if self.store else {"store": False})}

    def _turn_detection_dict(self) -> dict[str, Any] | None:
        if self.turn_detection is None:
            return None
        shown = {
            "type": "server_vad",
            "threshold": self.turn_detection.threshold,
            "prefix_padding_ms": self.turn_detection.prefix_ms,
            "silence_duration_ms": self.turn_detection.silence_ms,
        }
        if self.turn_detection.speech_ms is not None:
            shown["min_speech_duration_ms"] = self.turn_detection.speech_ms
        if self.type == "transcription":
            return shown
        if self.turn_detection.ignore_echo is not None:
            shown["ignore_echo"] = self.turn_detection.ignore_echo
        return {
            **shown,
            "idle_timeout_ms": None,
            "create_response": self.turn_detection.respond,
            "interrupt_response": self.turn_detection.interrupt,
        }


def _format(wanted: FormatIn, where: str) -> Format:
    if wanted.type == "audio/pcm":
        return Format(wanted.type, wanted.rate or SAMPLE_RATE_HZ)
    if wanted.rate not in (None, G711_RATE_HZ):
        message = f"{where}.rate: {wanted.type} has {G711_RATE_HZ} samples a second, got {wanted.rate}"
        raise BadParameter(f"{where}.rate", message, "invalid_value")
    return Format(wanted.type, G711_RATE_HZ)


def _turn_detection(wanted: TurnDetectionIn | Literal[False] | None) -> TurnDetection | None:
    """The detection that a client asks for. A value that cannot be had becomes the nearest one."""
    if not wanted:
        return None
    defaults = TurnDetection()
    silence_ms = wanted.silence_duration_ms
    if silence_ms is None:
        silence_ms = _EAGERNESS_MS[wanted.eagerness or "auto"]
    threshold = defaults.threshold if wanted.threshold is None else wanted.threshold
    speech_ms = wanted.min_speech_duration_ms
    prefix_ms = defaults.prefix_ms if wanted.prefix_padding_ms is None else wanted.prefix_padding_ms
    detection = replace(
        defaults,
        threshold=min(max(threshold, _LEAST_THRESHOLD), 1 - _LEAST_THRESHOLD),
        silence_ms=min(max(silence_ms, MIN_SILENCE_MS), MAX_MS),
        prefix_ms=min(prefix_ms, MAX_MS),
        speech_ms=None if speech_ms is None else min(speech_ms, MAX_SPEECH_MS),
        respond=wanted.create_response is not False,
        interrupt=wanted.interrupt_response is not False,
        ignore_echo=wanted.ignore_echo,
    )
    detection.check()
    return detection
