from __future__ import annotations

from chroma_voice import Client, TurnDetection
from tests.support.fake_gateway import FakeGateway


async def test_turn_detection_reaches_the_server_and_is_turned_off_again(client: Client, gateway: FakeGateway) -> None:
    detection = TurnDetection(threshold=0.25, silence_ms=300, interrupt_response=False, speech_ms=400, ignore_echo=True)
    async with client.conversation(
        voice="reader", input_rate_hz=16_000, turn_detection=detection, transcribe=True, text_only=True
    ) as talk:
        await talk.detect_turns(None)
    opened, changed = gateway.requests[0].open, gateway.requests[1].turn_detection
    assert (opened.transcribe, opened.text_only, changed.off) == (True, True, True)
    sent = opened.turn_detection
    assert (sent.threshold, sent.silence_duration_ms, sent.interrupt_response) == (0.25, 300, False)
    assert (sent.min_speech_duration_ms, sent.ignore_echo) == (400, True)
    assert not sent.HasField("prefix_padding_ms")
