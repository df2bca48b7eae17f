from __future__ import annotations

import asyncio

import grpc
import numpy as np
import pytest

from chroma.v1 import audio_pb2, dialogue_pb2
from chroma_voice import (
    AudioDelta,
    Client,
    NotFound,
    Patience,
    ResourceExhausted,
    Sampling,
    SessionSettings,
    TextDelta,
    TurnDone,
    TurnStarted,
    Unavailable,
)
from chroma_voice.conversation import Conversation
from chroma_voice.events import Event
from tests.support.fake_gateway import SAMPLES_PER_DELTA, WORDS, FakeGateway, serving


async def _reply(talk: Conversation) -> list[Event]:
    return [event async for event in talk.reply()]


async def test_spoken_turn_gives_text_and_sound_in_order(client: Client, gateway: FakeGateway) -> None:
    pcm = np.arange(40_000, dtype="<i2").tobytes()
    async with client.conversation(voice="reader", input_rate_hz=16_000) as talk:
        await talk.send_audio(pcm)
        await talk.commit()
        started, *deltas, done = await _reply(talk)
    assert started == TurnStarted("turn-1")
    texts = [delta for delta in deltas if isinstance(delta, TextDelta)]
    sounds = [delta for delta in deltas if isinstance(delta, AudioDelta)]
    assert [text.text for text in texts] == list(WORDS)
    assert [text.audio_offset_s for text in texts] == [0.0, 0.16, 0.32]
    assert [sound.first_sample for sound in sounds] == [0, SAMPLES_PER_DELTA, 2 * SAMPLES_PER_DELTA]
    assert [sound.samples.tolist() for sound in sounds] == [[index] * SAMPLES_PER_DELTA for index in range(3)]
    assert sounds[0].duration_s == 0.08
    assert isinstance(done, TurnDone)
    assert (done.outcome, done.text, done.speech_end, done.error) == ("completed", "Fold a tortilla.", "eos", None)
    assert (done.timings.heard_s, done.timings.last_audio_s) == (0.010, 0.050)
    sent = b"".join(request.audio for request in gateway.requests)
    assert sent == pcm
    await gateway.finished.wait()
    assert gateway.ended == "closed"


async def test_settings_reach_the_first_message(client: Client, gateway: FakeGateway) -> None:
    async with client.conversation(
        voice="reader",
        system_prompt="Be brief.",
        sampling=Sampling(greedy=True, seed=0),
        max_reply_s=2.5,
        input_rate_hz=44_100,
        input_encoding="f32le",
        max_lead_s=0.0,
    ):
        pass
    opening = gateway.requests[0].open
    assert opening.new_session.voice_id == "reader"
    assert opening.new_session.system_prompt == "Be brief."
    assert (opening.new_session.sampling.greedy, opening.new_session.sampling.HasField("seed")) == (True, True)
    assert not opening.new_session.sampling.HasField("top_k")
    assert opening.new_session.max_reply_s == 2.5
    assert opening.input_format.encoding == audio_pb2.AUDIO_ENCODING_PCM_F32LE
    assert opening.input_format.sample_rate_hz == 44_100
    assert (opening.HasField("max_lead_s"), opening.max_lead_s) == (True, 0.0)


async def test_conversation_without_input_rate_announces_no_audio(client: Client, gateway: FakeGateway) -> None:
    async with client.conversation(voice="reader"):
        pass
    assert not gateway.requests[0].open.HasField("input_format")
    assert not gateway.requests[0].open.HasField("max_lead_s")


async def test_session_is_resumed_by_id(client: Client, gateway: FakeGateway) -> None:
    session = await client.create_session(SessionSettings("reader"))
    async with client.conversation(session_id=session.session_id) as talk:
        assert talk.session == session
    assert gateway.requests[0].open.session_id == session.session_id


async def test_text_say_cancel_and_update_are_sent_as_such(client: Client, gateway: FakeGateway) -> None:
    async with client.conversation(voice="reader") as talk:
        await talk.send_text("Hello")
        await talk.cancel(played_s=0.5)
        await talk.update(SessionSettings(max_reply_s=1.0))
        await talk.say("Good ", end=False)
        await talk.say("day")
        assert isinstance((await _reply(talk))[-1], TurnDone)
    sent = gateway.requests[1:]
    assert sent[0].text == "Hello"
    assert sent[1].cancel.played_ms == 500
    assert sent[2].update.max_reply_s == 1.0
    assert [(request.say.text, request.say.end) for request in sent[3:]] == [("Good ", False), ("day", True)]


async def test_unknown_voice_raises_not_found_on_entering(client: Client) -> None:
    with pytest.raises(NotFound, match="no voice nobody"):
        async with client.conversation(voice="nobody"):
            pytest.fail("entered")


async def test_failed_turn_carries_its_error_and_the_conversation_goes_on(client: Client, gateway: FakeGateway) -> None:
    gateway.turn_error = dialogue_pb2.TurnError(code=8, message="no free slot", retry_after_s=1.5)
    async with client.conversation(voice="reader") as talk:
        await talk.send_text("Hello")
        await talk.commit()
        done = (await _reply(talk))[-1]
        assert isinstance(done, TurnDone)
        assert done.outcome == "failed"
        with pytest.raises(ResourceExhausted, match="no free slot") as caught:
            done.raise_for_error()
        assert caught.value.retry_after_s == 1.5
        gateway.turn_error = None
        await talk.commit()
        done = (await _reply(talk))[-1]
        assert isinstance(done, TurnDone)
        assert done.outcome == "completed"


async def test_broken_call_raises_its_status_and_retry_hint_after_what_was_made(
    client: Client, gateway: FakeGateway
) -> None:
    gateway.abort_after_first_audio = grpc.StatusCode.UNAVAILABLE
    gateway.abort_trailers = (("retry-after-ms", "250"),)
    async with client.conversation(voice="reader") as talk:
        await talk.commit()
        events = aiter(talk.reply())
        assert [type(await anext(events)) for _ in range(3)] == [TurnStarted, TextDelta, AudioDelta]
        with pytest.raises(Unavailable, match="told to") as caught:
            await anext(events)
    assert caught.value.retry_after_s == 0.25


async def test_sending_on_a_broken_call_raises_its_status(client: Client, gateway: FakeGateway) -> None:
    gateway.abort_after_first_audio = grpc.StatusCode.UNAVAILABLE
    async with client.conversation(voice="reader") as talk:
        await talk.commit()
        with pytest.raises(Unavailable, match="told to"):
            await _reply(talk)
        with pytest.raises(Unavailable, match="told to"):
            await talk.send_text("still there?")


async def test_leaving_by_an_exception_cancels_the_running_turn(client: Client, gateway: FakeGateway) -> None:
    gateway.hold_after_first_audio = True

    async def leave() -> None:
        async with client.conversation(voice="reader") as talk:
            await talk.commit()
            async for event in talk.reply():
                if isinstance(event, AudioDelta):
                    raise KeyError

    with pytest.raises(KeyError):
        await leave()
    await gateway.finished.wait()
    assert gateway.ended == "cancelled"


async def test_a_gateway_that_falls_silent_in_a_reply_is_given_up(gateway: FakeGateway) -> None:
    gateway.hold_after_first_audio = True
    async with serving(gateway) as address, Client(address, patience=Patience(silence_s=0.2)) as client:
        async with client.conversation(voice="reader") as talk:
            await talk.commit()
            with pytest.raises(Unavailable, match=r"the gateway hangs: it sent nothing for 0\.2 s"):
                await _reply(talk)
        await gateway.finished.wait()
    assert gateway.ended == "cancelled"


async def test_a_silence_in_which_no_reply_is_owed_ends_nothing(gateway: FakeGateway) -> None:
    async with (
        serving(gateway) as address,
        Client(address, patience=Patience(silence_s=0.2)) as client,
        client.conversation(voice="reader") as talk,
    ):
        events = talk.events()
        await talk.commit()
        while not isinstance(await anext(events), TurnDone):
            pass
        waiting = asyncio.ensure_future(anext(events))
        await asyncio.sleep(0.5)
        await talk.say("The text of this reply ", end=False)
        await asyncio.sleep(0.5)
        assert not waiting.done()
        await talk.say("goes on.")
        assert await waiting == TurnStarted("turn-1")
