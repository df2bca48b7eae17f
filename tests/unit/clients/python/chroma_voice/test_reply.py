from __future__ import annotations

import asyncio

import grpc
import pytest

from chroma.v1 import dialogue_pb2
from chroma_voice import Client, EndsSoon, TextDelta, TurnDone, TurnStarted, Unavailable
from tests.support.fake_gateway import SAMPLES_PER_DELTA, WORDS, FakeGateway

COMPLETED = dialogue_pb2.TURN_OUTCOME_COMPLETED


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


def started(turn_id: str) -> dialogue_pb2.ConverseResponse:
    return dialogue_pb2.ConverseResponse(turn_started=dialogue_pb2.TurnStarted(turn_id=turn_id))


def said(turn_id: str, text: str) -> dialogue_pb2.ConverseResponse:
    return dialogue_pb2.ConverseResponse(text=dialogue_pb2.TextDelta(turn_id=turn_id, text=text))


def done(turn_id: str) -> dialogue_pb2.ConverseResponse:
    return dialogue_pb2.ConverseResponse(turn_done=dialogue_pb2.TurnDone(turn_id=turn_id, outcome=COMPLETED))


ENDS_SOON = dialogue_pb2.ConverseResponse(ends_soon=dialogue_pb2.EndsSoon(in_s=30))
ONE, TWO = [started("1"), said("1", "a")], [started("2"), said("2", "b")]


@pytest.mark.parametrize(
    "sent",
    [
        [*ONE, done("1"), *TWO, done("2")],
        [*ONE, ENDS_SOON, done("1"), *TWO, done("2")],
        [*ONE, started("2"), done("1"), said("2", "b"), done("2")],  # the store is slow
        [*ONE, *TWO, done("1"), done("2")],
        [*ONE, *TWO, done("2"), done("1")],
    ],
)
async def test_two_turns_of_which_one_barged_in_are_two_replies(
    client: Client, gateway: FakeGateway, sent: list[dialogue_pb2.ConverseResponse]
) -> None:
    gateway.script = sent
    async with client.conversation(voice="reader") as talk, asyncio.timeout(60):
        for turn_id, text in (("1", "a"), ("2", "b")):
            events = [event async for event in talk.reply()]
            assert {event.turn_id for event in events if not isinstance(event, EndsSoon)} == {turn_id}
            assert [event.text for event in events if isinstance(event, TextDelta)] == [text]
            assert isinstance(events[-1], TurnDone)
        assert [event async for event in talk.events()] == []


async def test_all_events_are_there_after_a_reply_that_a_later_turn_overtook(
    client: Client, gateway: FakeGateway
) -> None:
    gateway.script = [*ONE, *TWO, done("1"), done("2")]
    async with client.conversation(voice="reader") as talk, asyncio.timeout(60):
        await talk.reply().done()
        rest = [event async for event in talk.events()]
        assert [type(event) for event in rest] == [TurnStarted, TextDelta, TurnDone]


async def test_a_reply_that_is_called_for_again_goes_on_with_its_turn(client: Client, gateway: FakeGateway) -> None:
    gateway.script = [*ONE, said("1", "b"), done("1")]
    async with client.conversation(voice="reader") as talk, asyncio.timeout(60):
        async for event in talk.reply():
            if isinstance(event, TextDelta):
                break
        assert [piece async for piece in talk.reply().text()] == ["b"]
