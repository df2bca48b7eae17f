from __future__ import annotations

import asyncio

import grpc
import pytest

from chroma.v1 import dialogue_pb2
from chroma_voice import Client, TurnDone, TurnStarted, Unavailable
from tests.support.fake_gateway import SAMPLES_PER_DELTA, WORDS, FakeGateway


async def test_text_and_sound_of_one_reply_are_read_at_the_same_time(client: Client) -> None:
    async def text() -> list[str]:
        return [piece async for piece in reply.text()]

    async def sound() -> int:
        return sum([len(piece) async for piece in reply.audio()])

    async with client.conversation(voice="reader") as talk:
        await talk.send_text("Hello?")
        await talk.commit()
        reply = talk.reply()
        assert await asyncio.gather(text(), sound()) == [list(WORDS), 2 * SAMPLES_PER_DELTA * len(WORDS)]
        assert (await reply.done()).outcome == "completed"


async def test_a_reply_is_read_again_from_its_start(client: Client) -> None:
    async with client.conversation(voice="reader") as talk:
        await talk.say("Hello.")
        reply = talk.reply()
        events = [event async for event in reply]
        assert isinstance(events[0], TurnStarted)
        assert isinstance(events[-1], TurnDone)
        assert [event async for event in reply] == events


async def test_text_of_a_failed_turn_ends_with_its_error(client: Client, gateway: FakeGateway) -> None:
    gateway.turn_error = dialogue_pb2.TurnError(code=grpc.StatusCode.UNAVAILABLE.value[0], message="the codec left")
    async with client.conversation(voice="reader") as talk:
        await talk.say("Hello.")
        with pytest.raises(Unavailable, match="the codec left"):
            async for _ in talk.reply().text():
                pass
