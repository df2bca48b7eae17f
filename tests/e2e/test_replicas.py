"""Two replicas of each service behind two gateways. Load spreads, a lost replica fails its own turns only, and a drain
fails no turn.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from contextlib import AsyncExitStack

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from chroma_voice import AudioDelta, Conversation, ResourceExhausted, Sampling, TurnDone, Unavailable
from services.runtime.engine.stream import MAX_RETRY_AFTER_S
from tests.support.local_stack import LONG_SPEECH, QUESTION, ask, first_sound, reply
from tests.support.replicated_stack import SERVICES, SPEECH_SLOTS, ReplicatedStack, replicated
from tests.support.server_process import Replica

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

CLEAR_STATUS_S = 5.0
SHORT_S = 1.0
TURN_S = 60.0
"""Every turn of these tests ends within this time, unless it is lost."""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReplicatedStack]:
    with replicated(tmp_path_factory.mktemp("replicas")) as stack:
        yield stack


async def text_turn(talk: Conversation, text: str) -> tuple[str, NDArray[np.int16]]:
    """Take a whole text turn that must succeed. Returns its text and its sound [S]."""
    await talk.send_text(text)
    await talk.commit()
    async with asyncio.timeout(TURN_S):
        events, done = await reply(talk)
    done.raise_for_error()
    assert (done.outcome, done.recorded) == ("completed", True)
    return done.text, np.concatenate([event.samples for event in events if isinstance(event, AudioDelta)])


async def end_of(talk: Conversation) -> TurnDone:
    """Read up to the end of the running turn."""
    async with asyncio.timeout(TURN_S):
        done = [event async for event in talk.reply()][-1]
    assert isinstance(done, TurnDone)
    return done


async def test_load_spreads_over_all_replicas_from_both_gateways(stack: ReplicatedStack) -> None:
    admitted = 'chroma_voice_queue_wait_seconds_count{{service="{}"}}'

    def work() -> dict[Replica, float]:
        return {
            replica: replica.metric(admitted.format(service))
            for service in SERVICES
            for replica in stack.replicas[service]
        }

    before = work()

    async def converse(gateway: int, voice: str) -> None:
        async with stack.client(gateway) as client:
            for _ in range(4):
                async with client.conversation(voice=voice, max_reply_s=SHORT_S, max_lead_s=0) as talk:
                    assert (await ask(talk)).outcome == "completed"

    await asyncio.gather(*(converse(gateway, voice) for gateway in range(2) for voice in stack.voices))
    after = work()
    assert all(after[replica] > before[replica] for replica in after)
    # A voice has one home replica: the other one never computed its rows.
    for replica, voice in zip(stack.replicas["speech_gen"], stack.voices, strict=True):
        assert stack.home("speech_gen", voice) is replica
        assert after[replica] - before[replica] == 8


async def test_a_full_replica_passes_calls_on_and_a_full_system_says_when_to_retry(stack: ReplicatedStack) -> None:
    async with stack.client() as client, AsyncExitStack() as talks:
        opened: list[Conversation] = []
        admitted, refused = 0, []
        while not refused:
            talk = await talks.enter_async_context(
                client.conversation(voice=stack.voices[0], sampling=LONG_SPEECH, max_reply_s=60, max_lead_s=0.2)
            )
            opened.append(talk)
            await talk.send_text("How do I make a taco?")
            await talk.commit()
            async for event in talk.reply():
                if isinstance(event, AudioDelta):
                    admitted += 1
                    break
                if isinstance(event, TurnDone):
                    refused.append(event.error)
        for talk in opened:
            await talk.cancel()
    assert isinstance(refused[0], ResourceExhausted)
    assert (refused[0].retry_after_s or 0) > 0
    assert SPEECH_SLOTS < admitted <= 2 * SPEECH_SLOTS
    await asyncio.sleep(MAX_RETRY_AFTER_S)  # before that, gateways may prefer another replica to a voice's home


@pytest.mark.parametrize("service", ["speech_gen", "codec"])
async def test_a_replica_killed_mid_turn_fails_its_own_turns_and_no_other(stack: ReplicatedStack, service: str) -> None:
    async with stack.client() as client, AsyncExitStack() as opened:
        homes: dict[Conversation, Replica] = {}
        while len(set(homes.values())) < 2:
            voice = stack.voices[len(homes) % 2]
            talk = await opened.enter_async_context(
                client.conversation(voice=voice, sampling=LONG_SPEECH, max_reply_s=4.0, max_lead_s=0.2)
            )
            turn_id = await first_sound(talk)
            homes[talk] = stack.home(service, voice if service == "speech_gen" else turn_id)
        # The first turn may be near its end: the one that began last is lost.
        talk, lost = list(homes.items())[-1]
        running = [other for other in homes if homes[other] is not lost]
        lost.kill()
        async with asyncio.timeout(CLEAR_STATUS_S):
            failed = await end_of(talk)
        assert isinstance(failed.error, Unavailable)
        assert service in str(failed.error)
        for other in running:
            assert (await end_of(other)).outcome == "completed"
        assert (await ask(talk)).outcome == "completed"
    await lost.ended()
    await stack.bring_back(lost)


async def test_a_reasoner_killed_during_a_question_is_replaced_by_one_that_gets_the_whole_question(
    stack: ReplicatedStack,
) -> None:
    samples, sample_rate_hz = soundfile.read(QUESTION, dtype="int16")
    settings = {
        "voice": stack.voices[0],
        "sampling": Sampling(greedy=True),
        "max_reply_s": SHORT_S,
        "max_lead_s": 0.0,
        "input_rate_hz": sample_rate_hz,
    }
    async with stack.client() as client:
        async with client.conversation(**settings) as talk:
            await talk.send_audio(samples.tobytes())
            await talk.commit()
            _, expected = await reply(talk)
        async with client.conversation(**settings) as talk:
            await talk.send_audio(samples[: len(samples) // 2].tobytes())
            lost = stack.home("reasoner", talk.session.session_id)
            lost.kill()
            await talk.send_audio(samples[len(samples) // 2 :].tobytes())
            await talk.commit()
            _, done = await reply(talk)
    assert done.outcome == "completed"
    # A turn ends with its speech, and its text is what has come by then: perhaps more than was spoken.
    shorter, longer = sorted((done.text, expected.text), key=len)
    assert shorter
    assert longer.startswith(shorter)
    await lost.ended()
    await stack.bring_back(lost)


async def test_sessions_go_on_elsewhere_with_equal_results_when_their_processes_are_killed(
    stack: ReplicatedStack,
) -> None:
    voice = stack.voices[0]
    settings = {"voice": voice, "sampling": Sampling(greedy=True), "max_reply_s": 3.0, "max_lead_s": 0.0}
    async with stack.client() as client:
        async with client.conversation(**settings) as talk:
            expected = [await text_turn(talk, "How do I make a taco?"), await text_turn(talk, "And a salsa?")]
        async with client.conversation(**settings) as talk:
            session_id = talk.session.session_id
            before = await text_turn(talk, "How do I make a taco?")
    lost = [stack.home("reasoner", session_id), stack.home("speech_gen", voice), stack.replicas["gateway"][0]]
    for replica in lost:
        replica.kill()
        await replica.ended()
    async with stack.client(1) as client, client.conversation(session_id=session_id, max_lead_s=0.0) as talk:
        after = await text_turn(talk, "And a salsa?")
    for (text, sound), (expected_text, expected_sound) in zip((before, after), expected, strict=True):
        assert text == expected_text
        assert len(sound) == len(expected_sound) > 0
        # The codec may take the frames in other groups, which moves a sample across a rounding edge.
        assert np.abs(sound.astype(int) - expected_sound).max() <= 1
    await stack.bring_back(*lost)


async def test_a_drain_under_load_loses_no_turn(stack: ReplicatedStack) -> None:
    stop = asyncio.Event()
    answered = 0

    async def load(voice: str) -> None:
        nonlocal answered
        async with stack.client(1) as client:
            while not stop.is_set():
                async with client.conversation(voice=voice, max_reply_s=SHORT_S, max_lead_s=0) as talk:
                    await text_turn(talk, "How do I make a taco?")
                    answered += 1

    async with asyncio.TaskGroup() as group:
        for voice in stack.voices:
            group.create_task(load(voice))
        for service in SERVICES:
            leaving = stack.replicas[service][0]
            leaving.signal(signal.SIGTERM)
            assert await leaving.ended() == 0
            before = answered
            while answered < before + 2:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
            await stack.bring_back(leaving)
        stop.set()


async def test_a_drained_gateway_ends_its_turn_and_sends_the_session_to_the_other(stack: ReplicatedStack) -> None:
    gateway = stack.replicas["gateway"][0]
    async with stack.client() as client:
        async with client.conversation(
            voice=stack.voices[0], sampling=LONG_SPEECH, max_reply_s=3.0, max_lead_s=0.2
        ) as talk:
            session_id = talk.session.session_id
            await first_sound(talk)
            gateway.signal(signal.SIGTERM)
            done = await end_of(talk)
            assert (done.outcome, done.recorded) == ("completed", True)
            with pytest.raises(Unavailable):
                async with asyncio.timeout(TURN_S):
                    await ask(talk)
        assert await gateway.ended() == 0
    async with stack.client(1) as client, client.conversation(session_id=session_id, max_lead_s=0) as talk:
        assert len(talk.session.entries) == 2
        await text_turn(talk, "Still there?")
    await stack.bring_back(gateway)
