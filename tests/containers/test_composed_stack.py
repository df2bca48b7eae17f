"""deploy/compose.yaml, run: a turn over each published port, a stop in mid-turn, a hung process."""

from __future__ import annotations

import asyncio
import io
import re
import time
import urllib.request
import wave

import httpx
import numpy as np
import pytest
import soundfile

from chroma_voice import AudioDelta, Client, Conversation, SessionSettings, TurnDone, Unavailable
from chroma_voice.events import Event
from tests.support.containers.composed import LASTING, Composed
from tests.support.local_stack import (
    LONG_SPEECH,
    PATIENCE_S,
    QUESTION,
    VOICE,
    ask,
    ask_until_answered,
    first_sound,
    reply,
)
from tests.support.manifests import SETTINGS

SECONDS = 1.0
REPLACED_WITHIN_S = 180.0
"""On a crowded machine. The seven minutes of a drain are longer."""


def long(client: Client) -> Conversation:
    """A turn whose reply is paced for a listener: it takes 20 s, so it is not complete when a service goes away."""
    return client.conversation(voice=VOICE, max_reply_s=20.0, sampling=LONG_SPEECH, max_lead_s=0.5)


def assert_unavailable(done: Event, service: str) -> None:
    """A turn failed because a service is away: the error names it, without an address, a path or a traceback."""
    assert isinstance(done, TurnDone)
    assert done.outcome == "failed"
    assert isinstance(done.error, Unavailable)
    assert service in str(done.error)
    assert not re.search(r"\d+\.\d+\.\d+|:\d{4}|/opt|Traceback", str(done.error)), done.error


async def test_a_spoken_question_is_answered_over_grpc(stack: Composed) -> None:
    samples, sample_rate_hz = soundfile.read(QUESTION, dtype="int16")
    async with (
        stack.client() as client,
        client.conversation(
            voice=VOICE, max_reply_s=SECONDS, sampling=LONG_SPEECH, input_rate_hz=sample_rate_hz, max_lead_s=0
        ) as talk,
    ):
        await talk.send_audio(samples.tobytes())
        await talk.commit()
        events, done = await reply(talk)
    assert (done.outcome, done.recorded) == ("completed", True)
    sound = np.concatenate([event.samples for event in events if isinstance(event, AudioDelta)])
    assert len(sound) > 0
    assert np.abs(sound).max() > 0


def test_speech_comes_over_http_and_a_caller_without_a_key_gets_none(stack: Composed) -> None:
    request = {"input": "Good morning.", "voice": VOICE, "response_format": "wav"}
    url = f"{stack.url}/v1/audio/speech"
    answer = httpx.post(url, json=request, headers={"authorization": f"Bearer {stack.key}"}, timeout=PATIENCE_S)
    assert answer.status_code == 200, answer.text
    with wave.open(io.BytesIO(answer.content)) as sound:
        assert sound.getframerate() == 24_000
        assert sound.getnframes() > 0
    assert httpx.post(url, json=request, timeout=PATIENCE_S).status_code == 401
    with urllib.request.urlopen(stack.url, timeout=PATIENCE_S) as page:
        assert page.status == 200


@pytest.mark.parametrize("service", list(SETTINGS))
def test_a_container_may_write_only_where_it_must(stack: Composed, service: str) -> None:
    assert stack.inside(service, "id", "-u").strip() == "10001"
    assert "Read-only" in stack.inside(service, "touch", "/x", check=False)
    stack.inside(service, "sh", "-c", "touch /tmp/x && rm /tmp/x")
    if service != "gateway":
        assert "Read-only" in stack.inside(service, "touch", "/models/x", check=False)
        stack.inside(service, "sh", "-c", "touch /compile-cache/x && rm /compile-cache/x")
    status = stack.process(service).status
    assert (int(status["CapEff"], 16), status["NoNewPrivs"]) == (0, "1")


@pytest.mark.parametrize("service", ["codec", "valkey"])
def test_a_hung_process_is_killed_and_started_again(stack: Composed, service: str) -> None:
    frozen = stack.process(service)
    began = time.monotonic()
    frozen.signal("STOP")
    assert not stack.is_healthy(service)
    while frozen.exists:
        assert time.monotonic() - began < REPLACED_WITHIN_S, "the health check kills it"
        stack.is_healthy(service)
    print(f"{service}: killed after {time.monotonic() - began:.0f} s")
    stack.until_healthy(service)
    print(f"{service}: healthy after {time.monotonic() - began:.0f} s")
    assert stack.process(service) != frozen
    for name in LASTING:
        stack.until_healthy(name)


async def test_a_turn_whose_service_is_killed_fails_with_a_clear_error_and_the_next_one_works(stack: Composed) -> None:
    killed = stack.process("speech-gen")
    async with stack.client() as client, long(client) as talk:
        await first_sound(talk)
        killed.signal("KILL")
        done = [event async for event in talk.reply()][-1]
        assert_unavailable(done, "speech_gen")
        await asyncio.to_thread(stack.until_healthy, "speech-gen")
        assert stack.process("speech-gen") != killed
        await talk.update(SessionSettings(max_reply_s=SECONDS))
        assert (await ask_until_answered(talk)).outcome == "completed"


async def test_a_service_that_is_stopped_finishes_its_turn_and_the_next_one_fails_until_it_is_back(
    stack: Composed,
) -> None:
    name = stack.container("codec")
    async with stack.client() as client, long(client) as talk:
        await first_sound(talk)
        stopping = asyncio.create_task(asyncio.to_thread(stack.compose, "stop", "codec"))
        done = [event async for event in talk.reply()][-1]
        assert isinstance(done, TurnDone)
        assert done.outcome == "completed", done
        await stopping
        assert stack.engine.inspect("container", name)["State"]["ExitCode"] == 0
        await talk.update(SessionSettings(max_reply_s=SECONDS))
        assert_unavailable(await ask(talk), "codec")
        await asyncio.to_thread(stack.compose, "start", "codec")
        await asyncio.to_thread(stack.until_healthy, "codec")
        assert (await ask_until_answered(talk)).outcome == "completed"


def test_taking_it_down_leaves_nothing(stack: Composed) -> None:
    engine = stack.engine
    stack.compose("down", "--volumes")
    assert engine.names("ps", "--all", "--format", "{{.Names}}") == []
    assert engine.names("volume", "ls", "--format", "{{.Name}}") == []
    assert engine.names("network", "ls", "--format", "{{.Name}}") == ["podman"]
    for left in (engine.processes, lambda: [mount for mount in engine.mounts() if "/storage/overlay/" in mount]):
        end = time.monotonic() + PATIENCE_S
        while left():
            assert time.monotonic() < end, left()
            time.sleep(0.1)
