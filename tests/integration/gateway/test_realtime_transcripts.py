"""Transcripts of the user's speech over /v1/realtime: with and without replies, and in transcription sessions."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest

from chroma.v1 import dialogue_pb2 as pb
from gateway.conversation.input import input_turn
from services.common.errors import InvalidArgument, ResourceExhausted
from tests.integration.gateway.conftest import Fakes, StartGateway
from tests.support.fake_script import REPLY
from tests.support.gateway_client import Client, new_voice, speech
from tests.support.realtime_client import MANUAL, RATE_HZ, Talk, kinds, openai_of, recorded

TRANSCRIPTION = {"transcription": {"model": "any"}}
DELTA = "conversation.item.input_audio_transcription.delta"
COMPLETED = "conversation.item.input_audio_transcription.completed"


@pytest.fixture
async def scribe(start_gateway: StartGateway) -> AsyncIterator[Client]:
    """A gateway that transcribes."""
    async with start_gateway(transcribe=True) as client:
        await client.voices.CreateVoice(new_voice("ada"))
        yield client


async def commit(talk: Talk, seconds: float) -> list[Any]:
    """Commit speech. Returns the events up to its transcript."""
    await talk.append(speech(seconds, rate_hz=RATE_HZ))
    await talk.send("input_audio_buffer.commit")
    return await talk.until(COMPLETED)


async def test_each_commit_is_transcribed_without_a_response(scribe: Client, fakes: Fakes) -> None:
    async with openai_of(scribe) as openai, openai.realtime.connect(model="any") as connection:
        talk = Talk(connection)
        await talk.send(
            "session.update", session={**MANUAL, "audio": {"input": {"turn_detection": None, **TRANSCRIPTION}}}
        )
        await talk.until("session.updated")
        for seconds in (0.5, 1.25):
            events = await commit(talk, seconds)
            (committed,) = [event for event in events if event.type == "input_audio_buffer.committed"]
            deltas = [event for event in events if event.type == DELTA]
            assert [event.delta for event in deltas] == list(REPLY)
            assert {event.item_id for event in (*deltas, events[-1])} == {committed.item_id}
            assert events[-1].transcript == "".join(REPLY)
            assert events[-1].usage.seconds == pytest.approx(seconds)
            await talk.send("conversation.item.retrieve", item_id=committed.item_id)
            item = (await talk.until("conversation.item.retrieved"))[-1].item
            assert item.content[0].transcript == "".join(REPLY)
        await talk.send("response.create")
        assert (await talk.until("response.done"))[-1].response.usage.input_audio_seconds == pytest.approx(1.75)
        assert COMPLETED not in kinds(talk.seen[-20:]), "a reply makes no further transcript"


async def test_the_transcript_of_silence_is_empty(scribe: Client, fakes: Fakes) -> None:
    async with openai_of(scribe) as openai, openai.realtime.connect(model="any") as connection:
        talk = Talk(connection)
        session = {"type": "transcription", "audio": {"input": {"turn_detection": None, **TRANSCRIPTION}}}
        await talk.send("session.update", session=session)
        await talk.until("session.updated")
        await talk.append(np.zeros(RATE_HZ, np.float32))
        await talk.send("input_audio_buffer.commit")
        (done,) = [event for event in await talk.until(COMPLETED) if "transcription" in event.type]
        assert (done.transcript, done.usage.seconds) == ("", 1.0)
    assert fakes.reasoner.script.opened == []


async def test_a_transcription_session_lets_each_turn_go_when_its_item_is_committed(
    scribe: Client, fakes: Fakes
) -> None:
    async with openai_of(scribe) as openai, openai.realtime.connect(model="any") as connection:
        talk = Talk(connection)
        for sound_format in ({"type": "audio/pcm", "rate": 24_000}, {"type": "audio/pcmu"}):
            audio = {"input": {"turn_detection": None, "format": sound_format, **TRANSCRIPTION}}
            await talk.send("session.update", session={"type": "transcription", "audio": audio})
            await talk.until("session.updated")  # the format may change, since no turn is under way
            await commit(talk, 0.5)
        committed = [event for event in talk.seen if event.type == "input_audio_buffer.committed"]
        assert committed[1].previous_item_id == committed[0].item_id != committed[1].item_id
    assert len(fakes.reasoner.script.opened) == 2, "only the transcripts are asked for"


async def test_a_transcript_waits_for_room_and_says_why_it_failed(scribe: Client, fakes: Fakes) -> None:
    async with openai_of(scribe) as openai, openai.realtime.connect(model="any") as connection:
        talk = Talk(connection)
        session = {"type": "transcription", "audio": {"input": {"turn_detection": None, **TRANSCRIPTION}}}
        await talk.send("session.update", session=session)
        await talk.until("session.updated")
        fakes.reasoner.script.failures = [ResourceExhausted("full", retry_after_s=0.01)] * 2
        assert (await commit(talk, 0.5))[-1].transcript == "".join(REPLY)
        fakes.reasoner.script.failures = [InvalidArgument("no words")]
        await talk.append(speech(0.5, rate_hz=RATE_HZ))
        await talk.send("input_audio_buffer.commit")
        failed = (await talk.until("conversation.item.input_audio_transcription.failed"))[-1]
        assert "no words" in failed.error.message


async def test_a_transcription_session_transcribes_each_utterance_and_never_replies(
    start_gateway: StartGateway, fakes: Fakes
) -> None:
    async with start_gateway(transcribe=True, max_input_s=4) as client:
        await client.voices.CreateVoice(new_voice("ada"))
        query = {"intent": "transcription"}
        async with openai_of(client) as openai, openai.realtime.connect(model="any", extra_query=query) as connection:
            talk = Talk(connection)
            session = (await talk.until("session.created"))[-1].session
            assert session.type == "transcription"
            sound = np.concatenate([recorded("utterance_librivox_3s.flac"), np.zeros(RATE_HZ, np.float32)])
            for _ in range(2):  # together they are longer than a turn may be
                await talk.append(sound)
                assert (await talk.until(COMPLETED))[-1].usage.seconds > 2.5
            assert len(fakes.reasoner.script.opened) == 2, "only the transcripts are asked for"
            await talk.send("response.create")
            assert (await talk.until("error"))[-1].error.message == "a transcription session has no responses"
        stored = await client.dialogue.GetSession(pb.GetSessionRequest(session_id=session.id))
        assert not stored.session.entries


async def test_words_come_while_the_user_speaks_and_the_end_adds_the_rest(
    scribe: Client, fakes: Fakes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(input_turn, "_EARLY_S", 0.02)
    script = fakes.reasoner.script
    detection = {"type": "server_vad", "silence_duration_ms": 5_000, "create_response": False}
    async with openai_of(scribe) as openai, openai.realtime.connect(model="any") as connection:
        talk = Talk(connection)
        audio = {"input": {**TRANSCRIPTION, "turn_detection": detection}}
        await talk.send("session.update", session={"type": "realtime", "audio": audio})
        await talk.until("session.updated")
        sound = recorded("utterance_librivox_3s.flac")
        await talk.append(sound)
        started = (await talk.until("input_audio_buffer.speech_started"))[-1]
        while not [call for call in script.opened if call.system_prompt.startswith("You write down speech")]:
            script.news.clear()
            await script.news.wait()
        await talk.append(sound)
        early = (await talk.until(DELTA))[-1]
        assert (early.item_id, early.delta) == (started.item_id, "Hello, dear")
        await talk.append(np.zeros(6 * RATE_HZ, np.float32))
        events = await talk.until(COMPLETED)
        assert [event.item_id for event in events if event.type == "input_audio_buffer.committed"] == [started.item_id]
        deltas = [event.delta for event in events if event.type == DELTA]
        assert early.delta + "".join(deltas) == events[-1].transcript == "".join(REPLY)
