"""Open microphones and long connections over /v1/realtime: cut audio, mute, endless speech, noise, limits, drains."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from services.common.wire.pcm import Samples
from tests.integration.gateway.conftest import StartGateway
from tests.support.gateway_client import new_voice, s16
from tests.support.realtime_client import MANUAL, RATE_HZ, Talk, kinds, openai_of, recorded


@asynccontextmanager
async def _talk(start_gateway: StartGateway, **settings: Any) -> AsyncIterator[Talk]:
    """An open connection to a gateway with these settings."""
    async with start_gateway(**settings) as client:
        await client.voices.CreateVoice(new_voice("ada"))
        async with openai_of(client) as openai, openai.realtime.connect(model="gpt-realtime") as connection:
            talk = Talk(connection)
            await talk.until("session.created")
            yield talk


def _utterance(pause_s: float) -> Samples:
    return np.concatenate([recorded("utterance_librivox_3s.flac"), np.zeros(int(pause_s * RATE_HZ), np.float32)])


@pytest.mark.parametrize("size", [161, 1_601])
@pytest.mark.parametrize("detects", [True, False])
async def test_audio_that_is_cut_within_samples_is_heard_whole(
    start_gateway: StartGateway, size: int, detects: bool
) -> None:
    data = s16(_utterance(1.0))
    async with _talk(start_gateway) as talk:
        if not detects:
            await talk.send("session.update", session=MANUAL)
            await talk.until("session.updated")
        for start in range(0, len(data), size):
            audio = base64.b64encode(data[start : start + size]).decode()
            await talk.send("input_audio_buffer.append", audio=audio)
        if not detects:
            await talk.send("input_audio_buffer.commit")
            await talk.send("response.create")
        events = await talk.until("response.done")
        assert "error" not in kinds(events)
        assert events[-1].response.status == "completed"
        seconds = events[-1].response.usage.input_audio_seconds
        assert seconds == pytest.approx(len(data) / 48_000 if not detects else 3.3, abs=0.4 if detects else 0.001)


async def test_clear_drops_the_bytes_of_a_cut_sample(start_gateway: StartGateway) -> None:
    data = s16(_utterance(0.0))
    async with _talk(start_gateway) as talk:
        await talk.send("session.update", session=MANUAL)
        await talk.send("input_audio_buffer.append", audio=base64.b64encode(b"\1").decode())
        await talk.send("input_audio_buffer.clear")
        await talk.send("input_audio_buffer.append", audio=base64.b64encode(data + b"\1").decode())
        await talk.send("input_audio_buffer.commit")
        await talk.send("response.create")
        events = await talk.until("response.done")
        assert "error" not in kinds(events)
        assert events[-1].response.usage.input_audio_seconds == pytest.approx(len(data) / 48_000)


async def test_a_microphone_that_is_muted_in_mid_speech_ends_the_turn(start_gateway: StartGateway) -> None:
    async with _talk(start_gateway, turn_gap_s=0.2) as talk:
        await talk.append(_utterance(0.0)[: RATE_HZ * 3 // 2])
        events = await talk.until("response.done")
        heard = [kind for kind in kinds(events) if kind.startswith("input_audio_buffer")]
        assert heard == [
            "input_audio_buffer.speech_started",
            "input_audio_buffer.speech_stopped",
            "input_audio_buffer.committed",
        ]
        assert events[-1].response.status == "completed"


async def test_speech_without_an_end_is_answered_at_the_limit_and_the_conversation_goes_on(
    start_gateway: StartGateway,
) -> None:
    async with _talk(start_gateway, max_input_s=2.0) as talk:
        await talk.append(_utterance(0.0))
        events = await talk.until("input_audio_buffer.committed")
        started, stopped, _ = (event for event in events if event.type.startswith("input_audio_buffer"))
        assert 1_900 <= stopped.audio_end_ms - started.audio_start_ms <= 2_000
        assert (await talk.until("response.done"))[-1].response.status == "completed"
        await talk.append(np.zeros(RATE_HZ, np.float32))
        assert (await talk.until("response.done"))[-1].response.status == "completed"


async def test_an_idle_client_is_told_before_its_session_expires(start_gateway: StartGateway) -> None:
    async with _talk(start_gateway, idle_limit_s=0.4) as talk:
        created = talk.seen[-1].session.expires_at
        told = (await talk.until("session.updated"))[-1].session.expires_at
        assert told < created - 3_000
        error = await talk.error()
        assert (error.code, error.type) == ("session_expired", "invalid_request_error")
        with pytest.raises(ConnectionClosed) as closed:
            await talk.next()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1001


@pytest.mark.slow  # it leaves the client time on a slow machine
async def test_a_draining_gateway_lets_a_conversation_go_on_and_then_asks_to_connect_again(
    start_gateway: StartGateway,
) -> None:
    async with start_gateway(drain_idle_s=5.0) as client:
        await client.voices.CreateVoice(new_voice("ada"))
        async with openai_of(client) as openai, openai.realtime.connect(model="gpt-realtime") as connection:
            talk = Talk(connection)
            session = (await talk.until("session.created"))[-1].session
            session_id = session.id
            drain = asyncio.create_task(client.server.drain(20))
            told = (await talk.until("session.updated"))[-1].session
            assert told.expires_at < session.expires_at - 3_000, "the client learns at once that its connection ends"
            assert (await talk.say("question"))[-1].response.status == "completed"
            assert (await talk.say("question"))[-1].response.status == "completed"
            with pytest.raises(ConnectionRefusedError):
                await connect(f"ws://{client.http_address}/v1/realtime")
            with pytest.raises(ConnectionClosed) as closed:
                await talk.next()
        await drain
    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, session_id in closed.value.rcvd.reason) == (1012, True)
