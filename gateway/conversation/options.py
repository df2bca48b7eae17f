"""How a client talks."""

from __future__ import annotations

from dataclasses import dataclass

from chroma.v1.audio_pb2 import AUDIO_ENCODING_PCM_S16LE, AudioEncoding, AudioFormat
from gateway.conversation.vad import TurnDetection


@dataclass(frozen=True)
class ConversationOptions:
    """How a client talks: what it sends, what it wants. A client may change them between two turns."""

    input_format: AudioFormat | None = None
    """Of its audio. None: it sends none."""
    output_encoding: AudioEncoding.ValueType = AUDIO_ENCODING_PCM_S16LE
    max_lead_s: float | None = None
    """None: the speech generator's default."""
    turn_detection: TurnDetection | None = None
    """None: it commits its turns."""
    transcribe: bool = False
    """Whether it wants to know what the user said."""
    text_only: bool = False
    """Whether replies are not spoken."""
