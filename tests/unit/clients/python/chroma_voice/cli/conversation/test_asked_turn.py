from __future__ import annotations

from chroma_voice import Client
from chroma_voice.cli.conversation.asked_turn import AskedTurn
from chroma_voice.cli.conversation.question import Recording
from tests.support.fake_gateway import FakeGateway


async def test_a_turn_sends_its_recording_before_its_text_or_says(client: Client, gateway: FakeGateway) -> None:
    spoken = AskedTurn(recording=Recording(b"\0\0" * 800, 8000), text="Right?")
    assert (spoken.rate_hz, AskedTurn(text="a").rate_hz) == (8000, None)
    for turn in (spoken, AskedTurn(say="Hello!")):
        async with client.conversation(voice="reader", input_rate_hz=turn.rate_hz) as talk:
            await turn.ask(talk, verbatim=True)
            await talk.reply().done()
    kinds = [request.WhichOneof("request") for request in gateway.requests]
    assert kinds == ["open", "audio", "text", "commit", "open", "say"]
    assert gateway.requests[-1].say.verbatim
