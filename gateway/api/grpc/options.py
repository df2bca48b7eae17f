"""The options of a conversation, read from the messages of a Converse call."""

from __future__ import annotations

import math

from chroma.v1.audio_pb2 import AUDIO_ENCODING_PCM_S16LE, AudioFormat
from chroma.v1.dialogue_pb2 import ConverseOpen
from chroma.v1.dialogue_pb2 import TurnDetection as TurnDetectionMessage
from gateway.audio.resample import check_rate
from gateway.conversation.options import ConversationOptions
from gateway.conversation.vad import TurnDetection
from services.common.errors import InvalidArgument
from services.common.wire.pcm import check_encoding


def conversation_options(opened: ConverseOpen) -> ConversationOptions:
    """Return the options in `open`. Raises InvalidArgument for a bad format, lead or turn detection."""
    if opened.HasField("input_format"):
        _check_input(opened.input_format)
    output_encoding = opened.output_encoding or AUDIO_ENCODING_PCM_S16LE
    check_encoding(output_encoding)
    max_lead_s = opened.max_lead_s if opened.HasField("max_lead_s") else None
    if max_lead_s is not None and not 0 <= max_lead_s < math.inf:
        raise InvalidArgument(f"expected max_lead_s of 0 or more, got {max_lead_s:g}")
    return ConversationOptions(
        input_format=opened.input_format if opened.HasField("input_format") else None,
        output_encoding=output_encoding,
        max_lead_s=max_lead_s,
        turn_detection=turn_detection(opened.turn_detection) if opened.HasField("turn_detection") else None,
        transcribe=opened.transcribe,
        text_only=opened.text_only,
    )


def turn_detection(message: TurnDetectionMessage) -> TurnDetection | None:
    """Return the turn detection in a message; None if it is off. Raises InvalidArgument for values out of range."""
    if message.off:
        return None
    defaults = TurnDetection()
    detection = TurnDetection(
        threshold=message.threshold if message.HasField("threshold") else defaults.threshold,
        silence_ms=message.silence_duration_ms if message.HasField("silence_duration_ms") else defaults.silence_ms,
        prefix_ms=message.prefix_padding_ms if message.HasField("prefix_padding_ms") else defaults.prefix_ms,
        respond=message.create_response if message.HasField("create_response") else defaults.respond,
        interrupt=message.interrupt_response if message.HasField("interrupt_response") else defaults.interrupt,
        ignore_echo=message.ignore_echo if message.HasField("ignore_echo") else defaults.ignore_echo,
        speech_ms=message.min_speech_duration_ms if message.HasField("min_speech_duration_ms") else defaults.speech_ms,
    )
    detection.check()
    return detection


def _check_input(audio_format: AudioFormat) -> None:
    check_encoding(audio_format.encoding)
    check_rate(audio_format.sample_rate_hz)
