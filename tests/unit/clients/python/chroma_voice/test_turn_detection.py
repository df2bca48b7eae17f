from __future__ import annotations

import grpc
import pytest

from chroma.v1 import dialogue_pb2
from chroma_voice import Client, SpeechStarted, SpeechStopped, TurnDetection, Unavailable, UserTranscript
from chroma_voice.events import event_from_proto
from tests.support.fake_gateway import FakeGateway


async def test_turn_detection_reaches_the_server_and_is_turned_off_again(client: Client, gateway: FakeGateway) -> None:
    detection = TurnDetection(threshold=0.25, silence_ms=300, interrupt_response=False)
    async with client.conversation(
        voice="reader", input_rate_hz=16_000, turn_detection=detection, transcribe=True, text_only=True
    ) as talk:
        await talk.detect_turns(None)
    opened, changed = gateway.requests[0].open, gateway.requests[1].turn_detection
    assert (opened.transcribe, opened.text_only, changed.off) == (True, True, True)
    sent = opened.turn_detection
    assert (sent.threshold, sent.silence_duration_ms, sent.interrupt_response) == (0.25, 300, False)
    assert not sent.HasField("prefix_padding_ms")


def test_speech_and_transcripts_are_events() -> None:
    started = dialogue_pb2.SpeechStarted(turn_id="t", audio_ms=1_500)
    stopped = dialogue_pb2.SpeechStopped(turn_id="t", audio_ms=2_500)
    said = dialogue_pb2.UserTranscript(turn_id="t", text="Tacos.")
    assert event_from_proto(dialogue_pb2.ConverseResponse(speech_started=started)) == SpeechStarted("t", 1.5)
    assert event_from_proto(dialogue_pb2.ConverseResponse(speech_stopped=stopped)) == SpeechStopped("t", 2.5)
    assert event_from_proto(dialogue_pb2.ConverseResponse(user_transcript=said)) == UserTranscript("t", "Tacos.", None)


def test_a_missing_transcript_says_why() -> None:
    failed = dialogue_pb2.UserTranscript(turn_id="t")
    failed.error.code, failed.error.message = grpc.StatusCode.UNAVAILABLE.value[0], "busy"
    event = event_from_proto(dialogue_pb2.ConverseResponse(user_transcript=failed))
    assert isinstance(event, UserTranscript)
    assert isinstance(event.error, Unavailable)
    with pytest.raises(Unavailable, match="busy"):
        raise event.error
