"""Options of a conversation, read from `open`."""

from __future__ import annotations

import pytest

from chroma.v1.audio_pb2 import AUDIO_ENCODING_PCM_S16LE, AudioFormat
from chroma.v1.dialogue_pb2 import ConverseOpen
from chroma.v1.dialogue_pb2 import TurnDetection as TurnDetectionMessage
from gateway.api.grpc.options import conversation_options, turn_detection
from gateway.conversation.options import ConversationOptions
from gateway.conversation.vad import TurnDetection
from services.common.errors import InvalidArgument


def test_an_empty_open_gives_the_defaults() -> None:
    assert conversation_options(ConverseOpen()) == ConversationOptions()


def test_a_lead_of_zero_is_kept_apart_from_an_unset_one() -> None:
    assert conversation_options(ConverseOpen(max_lead_s=0)).max_lead_s == 0
    assert conversation_options(ConverseOpen()).max_lead_s is None


def test_set_fields_of_turn_detection_replace_the_defaults() -> None:
    detection = turn_detection(TurnDetectionMessage(silence_duration_ms=700, create_response=False))
    assert detection == TurnDetection(silence_ms=700, respond=False)
    assert turn_detection(TurnDetectionMessage(min_speech_duration_ms=400)) == TurnDetection(speech_ms=400)
    assert turn_detection(TurnDetectionMessage(ignore_echo=True)) == TurnDetection(ignore_echo=True)
    assert turn_detection(TurnDetectionMessage(off=True, silence_duration_ms=1)) is None


@pytest.mark.parametrize(
    "opened",
    [
        ConverseOpen(input_format=AudioFormat(encoding=AUDIO_ENCODING_PCM_S16LE, sample_rate_hz=7_999)),
        ConverseOpen(input_format=AudioFormat(sample_rate_hz=16_000)),
        ConverseOpen(max_lead_s=-1),
        ConverseOpen(turn_detection=TurnDetectionMessage(threshold=1.5)),
    ],
)
def test_values_out_of_range_are_invalid(opened: ConverseOpen) -> None:
    with pytest.raises(InvalidArgument):
        conversation_options(opened)
