"""The state machine of a conversation, over fake upstreams and a fake store."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from chroma.v1.audio_pb2 import AUDIO_ENCODING_PCM_S16LE, AudioFormat
from chroma.v1.dialogue_pb2 import SessionConfig
from gateway.conversation.input import input_audio
from gateway.conversation.input.input_turn import Recording
from gateway.conversation.options import ConversationOptions
from gateway.conversation.output.events import (
    EndsSoon,
    Outcome,
    SpeechStarted,
    SpeechStopped,
    TurnDone,
    TurnStarted,
)
from gateway.conversation.vad import TurnDetection
from services.common.errors import FailedPrecondition, InvalidArgument, NotFound
from services.common.wire.pcm import encode_pcm
from tests.support.open_conversation import AUDIO, FORMAT, SETTINGS, ScriptedDetector, open_talk
from tests.support.virtual_time import virtual_time


async def test_the_first_input_begins_a_turn_and_the_commit_starts_its_reply() -> None:
    async with open_talk() as talk:
        turn_id = talk.conversation.add_text("hello")
        assert (talk.conversation.has_input, talk.conversation.is_replying) == (True, False)
        await talk.conversation.commit()
        assert (talk.conversation.has_input, talk.conversation.is_replying) == (False, True)
        assert await talk.until(TurnStarted) == TurnStarted(turn_id)
        (await talk.reply_begins()).end()
        done = await talk.until(TurnDone)
        assert (done.turn_id, done.outcome, done.recorded) == (turn_id, Outcome.COMPLETED, True)
        assert not talk.conversation.is_replying


async def test_without_input_the_reply_follows_the_history() -> None:
    async with open_talk() as talk:
        for respond in (talk.conversation.respond, lambda: talk.conversation.commit(may_be_empty=True)):
            await respond()
            started = await talk.until(TurnStarted)
            think = await talk.upstreams.reasoner.calls.get()
            assert (await think.requests.get()).HasField("open")
            assert (await think.requests.get()).HasField("commit")
            await talk.conversation.cancel()
            assert (await talk.until(TurnDone)).turn_id == started.turn_id
        assert [turn.user for turn in talk.conversation._context.session.turns] == [(), ()]


async def test_an_empty_commit_fails() -> None:
    async with open_talk() as talk:
        await talk.conversation.commit()
        error = (await talk.until(TurnDone)).error
        assert isinstance(error, InvalidArgument)
        assert "an empty turn" in error.message


async def test_a_response_leaves_the_audio_under_way_to_the_next_turn() -> None:
    async with open_talk() as talk:
        conversation = talk.conversation
        await conversation.append_audio(AUDIO)
        await conversation.respond(SessionConfig(system_prompt="Greet."))
        assert (conversation.has_input, conversation.is_replying) == (True, True)
        await conversation.cancel()
        turn_id = await conversation.add_message(["hello", AUDIO])
        await conversation.append_audio(AUDIO)
        await conversation.respond()
        assert conversation.has_input
        replied = conversation._turns.reply_turn
        assert replied is not None
        assert replied.turn.turn_id == turn_id
        text, recording = replied.turn.source.parts
        assert (text, len(recording)) == ("hello", len(AUDIO))
        await conversation.cancel()
        past = await conversation.inject_reply("Good day.")
        assert past != turn_id
        await conversation.append_audio(AUDIO)
        await conversation.commit()
        replied = conversation._turns.reply_turn
        assert replied is not None
        (audio,) = replied.turn.source.parts
        assert len(audio) == 3 * len(AUDIO)
        assert replied.turn.source.audio_s == pytest.approx(0.3)


async def test_the_last_event_says_what_interrupted_a_reply(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(input_audio, "TurnDetector", ScriptedDetector)
    options = ConversationOptions(input_format=FORMAT, turn_detection=TurnDetection())
    async with open_talk(options) as talk:
        await talk.conversation.respond()
        await talk.conversation.cancel()
        assert (await talk.until(TurnDone)).interrupted_by == "client"
        await talk.conversation.respond()
        await talk.conversation.append_audio(AUDIO)
        assert (await talk.until(TurnDone)).interrupted_by == "speech"


async def test_a_microphone_that_streams_noise_is_not_idle() -> None:
    noise = np.random.default_rng(1).standard_normal(1_600).astype(np.float32) * np.float32(1e-3)
    sound = encode_pcm(noise, AUDIO_ENCODING_PCM_S16LE)
    async with open_talk(ConversationOptions(input_format=FORMAT, turn_detection=TurnDetection())) as talk:
        with virtual_time():
            for _ in range(5):
                await asyncio.sleep(0.7 * SETTINGS.idle_limit_s)
                await talk.conversation.append_audio(sound)
                assert talk.events.empty(), "the client is told before an idle conversation ends"
            await asyncio.sleep(0.95 * SETTINGS.idle_limit_s)
        assert isinstance(talk.events.get_nowait(), EndsSoon)


async def test_an_interruption_frees_the_turn_at_once_while_the_store_is_frozen() -> None:
    async with open_talk() as talk:
        conversation = talk.conversation
        first = conversation.add_text("hello")
        await conversation.commit()
        await talk.reply_begins()
        talk.sessions.answers.clear()
        async with asyncio.timeout(60):
            second = conversation.add_text("wait")
            await conversation.commit()
            await talk.reply_begins()
            assert talk.events.empty()
        history = conversation._context.session.turns
        assert [(turn.turn_id, turn.heard_tokens) for turn in history] == [(first, 1)]
        talk.sessions.answers.set()
        done = await talk.until(TurnDone)
        assert (done.turn_id, done.outcome, done.recorded) == (first, Outcome.INTERRUPTED, True)
        await conversation.cancel()
        assert (await talk.until(TurnDone)).turn_id == second


async def test_finish_waits_until_the_interrupted_turn_is_recorded_and_reported() -> None:
    async with open_talk() as talk:
        turn_id = talk.conversation.add_text("hello")
        await talk.conversation.commit()
        await talk.reply_begins()
        talk.sessions.answers.clear()
        await talk.conversation.cancel()
        finishing = asyncio.create_task(talk.conversation.finish())
        for _ in range(20):
            await asyncio.sleep(0)
        assert not finishing.done()
        talk.sessions.answers.set()
        await finishing
        assert talk.sessions.log == [f"record {turn_id}"]
        assert (await talk.until(TurnDone)).recorded


async def test_closing_waits_until_the_interrupted_turn_is_recorded() -> None:
    async with open_talk() as talk:
        turn_id = talk.conversation.add_text("hello")
        await talk.conversation.commit()
        await talk.reply_begins()
        talk.sessions.answers.clear()
        await talk.conversation.cancel()
        asyncio.get_running_loop().call_later(0.01, talk.sessions.answers.set)
    assert talk.sessions.log == [f"record {turn_id}"]


async def test_cancel_without_a_reply_drops_the_input_unless_a_turn_is_named() -> None:
    async with open_talk() as talk:
        talk.conversation.add_text("hello")
        await talk.conversation.cancel(turn_id="turn-before")
        assert talk.conversation.has_input
        await talk.conversation.cancel()
        assert not talk.conversation.has_input


async def test_dropped_audio_leaves_the_text_of_its_turn() -> None:
    async with open_talk() as talk:
        turn_id = talk.conversation.add_text("look")
        await talk.conversation.append_audio(AUDIO)
        await talk.conversation.drop_audio()
        assert talk.conversation.end_audio() is None
        assert talk.conversation.add_text("here") == turn_id
        turn = talk.conversation._turns.input_turn
        assert turn is not None
        assert turn.turn.source.parts == ["look", "here"]


async def test_recordings_are_parts_of_their_own() -> None:
    async with open_talk() as talk:
        turn_id = await talk.conversation.add_message([AUDIO])
        assert await talk.conversation.add_message([AUDIO]) == turn_id
        await talk.conversation.append_audio(AUDIO)
        assert talk.conversation.end_audio() == Recording(turn_id, "recording-1")
        turn = talk.conversation._turns.input_turn
        assert turn is not None
        assert [len(part) for part in turn.turn.source.parts] == [3_200] * 3


async def test_audio_without_a_format_is_refused() -> None:
    async with open_talk(ConversationOptions()) as talk:
        with pytest.raises(InvalidArgument, match="input_format"):
            await talk.conversation.append_audio(AUDIO)
        with pytest.raises(InvalidArgument, match="input_format"):
            await talk.conversation.add_message([AUDIO])
        assert not talk.conversation.has_input


async def test_the_format_cannot_change_within_an_input_turn() -> None:
    other = ConversationOptions(input_format=AudioFormat(encoding=AUDIO_ENCODING_PCM_S16LE, sample_rate_hz=8_000))
    async with open_talk() as talk:
        await talk.conversation.append_audio(AUDIO)
        with pytest.raises(InvalidArgument, match="format"):
            talk.conversation.set_options(other)
        await talk.conversation.drop_input()
        talk.conversation.set_options(other)
        assert talk.conversation.options == other


async def test_history_may_be_injected_while_no_reply_runs() -> None:
    async with open_talk() as talk:
        talk.conversation.add_text("who are you?")
        turn_id = await talk.conversation.inject_reply("Ann")
        (turn,) = talk.conversation._context.session.turns
        assert (turn.turn_id, turn.user, turn.heard_text) == (turn_id, ("who are you?",), "Ann")
        talk.conversation.add_text("hello")
        await talk.conversation.commit()
        with pytest.raises(FailedPrecondition):
            await talk.conversation.inject_reply("late")


async def test_a_text_too_long_for_the_history_is_refused_and_leaves_nothing() -> None:
    async with open_talk() as talk:
        with pytest.raises(InvalidArgument, match="a reply of at most 20000 characters"):
            await talk.conversation.inject_reply("a" * 20_001)
        talk.conversation.add_text("hello")
        with pytest.raises(InvalidArgument, match="a system prompt of at most 32000 characters"):
            await talk.conversation.respond(SessionConfig(system_prompt="a" * 32_001))
        assert talk.conversation._context.session.turns == ()
        assert not talk.conversation.is_replying


async def test_removing_the_turn_that_is_replied_to_interrupts_it_first() -> None:
    async with open_talk() as talk:
        turn_id = talk.conversation.add_text("hello")
        await talk.conversation.commit()
        await talk.reply_begins()
        assert await talk.conversation.history.remove(turn_id, user=False)
        assert not talk.conversation.is_replying
        (turn,) = talk.conversation._context.session.turns
        assert (turn.user, turn.texts) == (("hello",), ())
        assert not await talk.conversation.history.remove("turn-unknown", user=True)


async def test_settings_of_an_unknown_voice_are_refused() -> None:
    async with open_talk() as talk:
        with pytest.raises(NotFound):
            await talk.conversation.configure(SessionConfig(voice_id="eve"))


@pytest.mark.parametrize("respond", [True, False])
async def test_speech_in_the_audio_begins_a_turn_and_its_end_commits_it(
    monkeypatch: pytest.MonkeyPatch, respond: bool
) -> None:
    monkeypatch.setattr(input_audio, "TurnDetector", ScriptedDetector)
    detection = TurnDetection(respond=respond)
    async with open_talk(ConversationOptions(input_format=FORMAT, turn_detection=detection)) as talk:
        await talk.conversation.append_audio(AUDIO + AUDIO)
        started, stopped = await talk.until(SpeechStarted), await talk.until(SpeechStopped)
        assert started.turn_id == stopped.turn_id
        assert (started.audio_ms, stopped.audio_ms) == (0, 200)
        assert (talk.conversation.has_input, talk.conversation.is_replying) == (not respond, respond)


@pytest.mark.parametrize("interrupt", [True, False])
async def test_speech_interrupts_a_reply_unless_the_option_is_off(
    monkeypatch: pytest.MonkeyPatch, interrupt: bool
) -> None:
    monkeypatch.setattr(input_audio, "TurnDetector", ScriptedDetector)
    detection = TurnDetection(interrupt=interrupt)
    async with open_talk(ConversationOptions(input_format=FORMAT, turn_detection=detection)) as talk:
        talk.conversation.add_text("hello")
        await talk.conversation.commit()
        await talk.reply_begins()
        await talk.conversation.append_audio(AUDIO)
        assert talk.conversation.is_replying != interrupt
        if interrupt:
            assert (await talk.until(TurnDone)).outcome is Outcome.INTERRUPTED
        await talk.until(SpeechStarted)


async def test_a_forced_reply_ends_with_the_conversation_although_its_last_piece_never_came() -> None:
    async with open_talk() as talk:
        await talk.conversation.say("", end=False)
        finishing = asyncio.create_task(talk.conversation.finish())
        done = await talk.until(TurnDone)
        assert done.outcome is Outcome.FAILED
        await finishing


async def test_pieces_of_an_interrupted_forced_reply_are_ignored_up_to_its_end() -> None:
    async with open_talk() as talk:
        conversation = talk.conversation
        await conversation.say("one ", end=False)
        first = await talk.until(TurnStarted)
        await conversation.cancel()
        assert (await talk.until(TurnDone)).turn_id == first.turn_id
        await conversation.say("two", end=True)
        assert not conversation.is_replying
        await conversation.say("three", end=True)
        assert conversation.is_replying
        assert (await talk.until(TurnStarted)).turn_id != first.turn_id
