"""The options of a conversation and of a session, and what makes them valid."""

from __future__ import annotations

import math
from dataclasses import dataclass

from chroma.v1.audio_pb2 import AUDIO_ENCODING_PCM_S16LE, AudioEncoding, AudioFormat
from chroma.v1.dialogue_pb2 import SessionConfig
from gateway.conversation.vad import TurnDetection
from gateway.store.voices import check_voice_id
from services.common.errors import InvalidArgument
from services.common.wire import sampling


@dataclass(frozen=True)
class ConversationOptions:
    """The formats and features that a client asks for. It may change them between two turns."""

    input_format: AudioFormat | None = None
    """The format of the client's audio. None: the client sends no audio."""
    output_encoding: AudioEncoding.ValueType = AUDIO_ENCODING_PCM_S16LE
    max_lead_s: float | None = None
    """The most speech made ahead of the listener. None: the speech generator's default."""
    turn_detection: TurnDetection | None = None
    """None: the client commits its turns."""
    transcribe: bool = False
    """Whether the client gets a transcript of what the user said."""
    text_only: bool = False
    """Whether replies are text without speech."""


def check_new(config: SessionConfig) -> None:
    """Check the settings of a new session. Raises InvalidArgument."""
    if not config.voice_id:
        raise InvalidArgument("expected a `voice_id`, got none")
    check_change(config)


def check_change(config: SessionConfig) -> None:
    """Check the fields that `config` sets. Raises InvalidArgument."""
    if config.voice_id:
        check_voice_id(config.voice_id)
    if config.HasField("max_reply_s") and not 0 < config.max_reply_s < math.inf:
        raise InvalidArgument(f"expected max_reply_s above 0, got {config.max_reply_s:g}")
    if config.HasField("sampling"):
        sampling.from_message(config.sampling)
