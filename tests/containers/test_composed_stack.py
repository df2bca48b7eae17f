"""deploy/compose.yaml, run: a turn over each published port, a stop in mid-turn, a hung process."""

from __future__ import annotations

import asyncio
import io
import threading
import time
import urllib.request
import wave

import httpx
import numpy as np
import pytest
import soundfile

from chroma_voice import AudioDelta
from tests.support.containers.composed import LASTING, Composed
from tests.support.local_stack import LONG_SPEECH, PATIENCE_S, QUESTION, VOICE, reply
from tests.support.manifests import SETTINGS

SECONDS = 1.0
REPLACED_WITHIN_S = 180.0
"""On a crowded machine. The seven minutes of a drain are longer."""


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
    while frozen.exists:
        assert time.monotonic() - began < REPLACED_WITHIN_S, "the health check kills it"
        assert not stack.is_healthy(service)
    print(f"{service}: killed after {time.monotonic() - began:.0f} s")
    stack.until_healthy(service)
    print(f"{service}: healthy after {time.monotonic() - began:.0f} s")
    assert stack.process(service) != frozen
    for name in LASTING:
        stack.until_healthy(name)


async def test_a_service_that_is_stopped_in_mid_turn_finishes_the_turn(stack: Composed) -> None:
    name = stack.container("codec")
    async with (
        stack.client() as client,
        client.conversation(voice=VOICE, max_reply_s=20.0, sampling=LONG_SPEECH, max_lead_s=0.5) as talk,
    ):
        await talk.send_text("How do I make a taco?")
        await talk.commit()
        stopping: threading.Thread | None = None
        done = None
        async for event in talk.reply():
            if isinstance(event, AudioDelta) and stopping is None:
                stopping = threading.Thread(target=stack.compose, args=("stop", "codec"))
                stopping.start()
            done = event
    assert stopping is not None
    await asyncio.to_thread(stopping.join)
    assert done is not None
    assert getattr(done, "outcome", None) == "completed", done
    assert stack.engine.inspect("container", name)["State"]["ExitCode"] == 0
    stack.engine.run("start", name)
    stack.until_healthy("codec")


def test_taking_it_down_leaves_nothing(stack: Composed) -> None:
    engine = stack.engine
    stack.compose("down", "--volumes")
    assert engine.names("ps", "--all", "--format", "{{.Names}}") == []
    assert engine.names("volume", "ls", "--format", "{{.Name}}") == []
    assert engine.names("network", "ls", "--format", "{{.Name}}") == ["podman"]
    assert not [command for command in engine.processes() if "aardvark-dns" not in command]
    assert not [mount for mount in engine.mounts() if "/merged" in mount or "/shm" in mount or "netns" in mount]
