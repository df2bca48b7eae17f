"""What a caller sees when a process is lost, and what is kept."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal

import pytest
import soundfile

from chroma_voice import Client, Conversation, SessionSettings, TurnDone, Unavailable, Voice
from tests.support.local_stack import (
    LONG_SPEECH,
    PATIENCE_S,
    QUESTION,
    VOICE,
    VOICE_TRANSCRIPT,
    LocalStack,
    ask,
    ask_until_answered,
    first_sound,
    reply,
    run,
)

CLEAR_STATUS_S = 10.0
"""The contract is 2 s. A killed process is noticed in milliseconds, but a busy machine may need longer."""


def short(client: Client) -> Conversation:
    return client.conversation(voice=VOICE, max_reply_s=1.0, max_lead_s=0)


def long(client: Client) -> Conversation:
    """A turn whose reply is paced for a listener: it takes 20 s, so it is not complete when a process is killed."""
    return client.conversation(voice=VOICE, sampling=LONG_SPEECH, max_reply_s=20.0, max_lead_s=0.5)


FROZEN_STATUS_S = 25.0
"""A frozen gateway is noticed after 15 s: 10 s until a ping, and 5 s without its answer. The rest is for a busy
machine."""


async def voice_when_served(client: Client) -> Voice:
    """The voice. Asks again while the answer is UNAVAILABLE, as a client should."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            with contextlib.suppress(Unavailable):
                return await client.get_voice(VOICE)
            await asyncio.sleep(0.2)


@pytest.mark.parametrize("name", ["codec", "speech_gen"])
async def test_service_killed_while_it_speaks_fails_the_turn_and_the_next_turn_works(
    stack: LocalStack, name: str
) -> None:
    async with stack.client() as client, long(client) as talk:
        await first_sound(talk)
        pid = stack.kill(name)
        async with asyncio.timeout(CLEAR_STATUS_S):
            done = [event async for event in talk.reply()][-1]
        assert isinstance(done, TurnDone)
        assert (done.outcome, done.recorded) == ("failed", False)
        with pytest.raises(Unavailable, match=name):
            done.raise_for_error()
        await stack.back(name, pid)
        await talk.update(SessionSettings(max_reply_s=1.0))
        assert (await ask_until_answered(talk)).outcome == "completed"


async def test_reasoner_killed_during_a_question_fails_the_turn_and_the_next_turn_works(stack: LocalStack) -> None:
    samples, sample_rate_hz = soundfile.read(QUESTION, dtype="int16")
    async with (
        stack.client() as client,
        client.conversation(voice=VOICE, max_reply_s=1.0, max_lead_s=0, input_rate_hz=sample_rate_hz) as talk,
    ):
        await talk.send_audio(samples.tobytes())
        pid = stack.kill("reasoner")
        async with asyncio.timeout(CLEAR_STATUS_S):
            await talk.commit()
            _, done = await reply(talk)
        assert done.outcome == "failed"
        with pytest.raises(Unavailable, match="reasoner"):
            done.raise_for_error()
        await stack.back("reasoner", pid)
        assert (await ask_until_answered(talk)).outcome == "completed"


async def test_gateway_killed_mid_turn_ends_the_call_and_the_session_goes_on(stack: LocalStack) -> None:
    async with stack.client() as client, short(client) as talk:
        assert (await ask(talk)).recorded
        session_id = talk.session.session_id
    async with stack.client() as client:
        talk = await long(client).__aenter__()
        await first_sound(talk)
        pid = stack.kill("gateway")
        with pytest.raises(Unavailable):
            async with asyncio.timeout(CLEAR_STATUS_S):
                await reply(talk)
    await stack.back("gateway", pid)
    async with stack.client() as client, client.conversation(session_id=session_id, max_lead_s=0) as talk:
        assert len(talk.session.entries) == 2
        assert (await ask_until_answered(talk)).outcome == "completed"


@pytest.mark.slow
async def test_voice_and_session_survive_the_killed_store_and_a_restart_of_everything(stack: LocalStack) -> None:
    async with stack.client() as client, short(client) as talk:
        assert (await ask(talk)).recorded
        session_id = talk.session.session_id
        pid = stack.kill("valkey")
        await stack.back("valkey", pid)
        assert (await voice_when_served(client)).transcript == VOICE_TRANSCRIPT
        assert (await ask(talk)).recorded
    stack.stop()
    stack.start()
    async with stack.client() as client:
        assert (await client.get_voice(VOICE)).transcript == VOICE_TRANSCRIPT
        async with client.conversation(session_id=session_id, max_lead_s=0) as talk:
            assert len(talk.session.entries) == 4
            assert (await ask(talk)).outcome == "completed"
    assert VOICE in run("voice", "list", "--state", stack.folder.path)


async def test_frozen_gateway_fails_the_running_turn_and_goes_on_when_it_is_thawed(stack: LocalStack) -> None:
    pid = stack.endpoints.pids["gateway"]
    async with stack.client() as client:
        async with long(client) as talk:
            await first_sound(talk)
            os.kill(pid, signal.SIGSTOP)
            try:
                with pytest.raises(Unavailable):
                    await asyncio.wait_for(reply(talk), FROZEN_STATUS_S)
            finally:
                os.kill(pid, signal.SIGCONT)
        assert (await voice_when_served(client)).voice_id == VOICE
