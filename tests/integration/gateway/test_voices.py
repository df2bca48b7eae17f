"""Voices: enrolled from any common file, kept, listed, deleted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from grpc import StatusCode, aio
from redis.asyncio import Redis

from chroma.v1 import dialogue_pb2 as pb
from tests.integration.gateway.conftest import Fakes
from tests.support.gateway_client import Client, audio_file, new_voice, speech
from tests.support.recordings import by_ffmpeg

GOOD_FILES = {
    "8 kHz WAV": audio_file(speech(2, rate_hz=8_000), 8_000),
    "48 kHz stereo WAV": audio_file(np.stack([speech(2, rate_hz=48_000)] * 2, axis=1), 48_000),
    "float WAV": audio_file(speech(2, rate_hz=24_000), subtype="FLOAT"),
    "FLAC": audio_file(speech(2, rate_hz=44_100), 44_100, format="FLAC"),
    "OGG": audio_file(speech(2, rate_hz=44_100), 44_100, format="OGG"),
    "MP3": audio_file(speech(2, rate_hz=44_100), 44_100, format="MP3"),
    "an iPhone's M4A": by_ffmpeg(speech(2, rate_hz=44_100), 44_100, "ipod", "aac"),
    "a browser's WebM": by_ffmpeg(speech(2, rate_hz=48_000), 48_000, "webm", "libopus"),
    "an old phone's 3GP": by_ffmpeg(speech(2, rate_hz=8_000), 8_000, "3gp", "libopencore_amrnb"),
}

_NAN = speech(2, rate_hz=24_000)
_NAN[5] = np.nan

BAD_REQUESTS: dict[str, tuple[dict[str, Any], str]] = {
    "no file": ({"audio_file": b""}, "expected an audio file"),
    "no audio": ({"audio_file": b"these are words, not sound" * 100}, "got a text"),
    "half a header": ({"audio_file": audio_file(speech(2))[:20]}, "got a WAV file that ends in its header"),
    "silence": ({"audio_file": audio_file(np.zeros(48_000, np.float32))}, "silence"),
    "too short": ({"audio_file": audio_file(speech(0.9, rate_hz=24_000))}, "1 to 30 s of audio, got 0.90 s"),
    "too long": ({"audio_file": audio_file(speech(30.1, rate_hz=8_000), 8_000)}, "1 to 30 s of audio, got more"),
    "nine channels": ({"audio_file": audio_file(np.stack([speech(2)] * 9, axis=1))}, "1 to 8 channels, got 9"),
    "7 kHz": ({"audio_file": audio_file(speech(2, rate_hz=7_000), 7_000)}, "8000 to 192000 Hz"),
    "NaN": ({"audio_file": audio_file(_NAN, subtype="FLOAT")}, "finite samples"),
    "17 MiB": ({"audio_file": bytes(17 * 1024 * 1024)}, "expected an audio file of 1 to 16777216 bytes"),
    "no transcript": ({"transcript": "  "}, "transcript"),
    "no consent": ({"consent": " "}, "consent"),
    "a bad id": ({"voice_id": "-eve"}, "voice id"),
}


@pytest.mark.parametrize("name", GOOD_FILES)
async def test_a_voice_is_enrolled_from_any_common_file(client: Client, fakes: Fakes, name: str) -> None:
    created = await client.voices.CreateVoice(new_voice("eve", audio_file=GOOD_FILES[name], display_name="Eve"))
    assert created.voice.duration_s == pytest.approx(2.0, abs=0.1)
    assert (created.voice.display_name, created.voice.transcript) == ("Eve", "hello")
    assert created.voice.consent == "Ada agreed in writing"
    assert (await client.voices.GetVoice(pb.GetVoiceRequest(voice_id="eve"))).voice == created.voice
    request = fakes.speech_gen.script.opened[-1]
    assert request.transcript == "hello"
    assert len(request.frames.codes) // 8 == int(np.ceil(created.voice.duration_s * 12.5))
    async with client.converse(new_session=pb.SessionConfig(voice_id="eve")) as talk:
        assert (await talk.ask("question")).outcome == pb.TURN_OUTCOME_COMPLETED


@pytest.mark.parametrize("case", BAD_REQUESTS)
async def test_a_bad_recording_enrols_nothing(client: Client, fakes: Fakes, case: str) -> None:
    changes, expected = BAD_REQUESTS[case]
    with pytest.raises(aio.AioRpcError) as raised:
        await client.voices.CreateVoice(new_voice(**{"voice_id": "eve", **changes}))
    assert raised.value.code() == StatusCode.INVALID_ARGUMENT
    assert expected in (raised.value.details() or "")
    voices = (await client.voices.ListVoices(pb.ListVoicesRequest())).voices
    assert [voice.voice_id for voice in voices] == ["ada"]
    await client.voices.CreateVoice(new_voice("eve"))


async def test_a_taken_id_is_refused_and_an_empty_one_made_up(client: Client) -> None:
    with pytest.raises(aio.AioRpcError) as raised:
        await client.voices.CreateVoice(new_voice("ada"))
    assert raised.value.code() == StatusCode.ALREADY_EXISTS
    made = (await client.voices.CreateVoice(new_voice(""))).voice
    assert made.voice_id.startswith("voice-")
    assert made.display_name == made.voice_id


async def test_voices_are_listed_in_pages_in_order_of_their_ids(client: Client) -> None:
    for voice_id in ("eve", "bob", "cy"):
        await client.voices.CreateVoice(new_voice(voice_id))
    seen: list[list[str]] = []
    token = ""
    while token or not seen:
        page = await client.voices.ListVoices(pb.ListVoicesRequest(page_size=3, page_token=token))
        seen.append([voice.voice_id for voice in page.voices])
        token = page.next_page_token
    assert seen == [["ada", "bob", "cy"], ["eve"]]
    for request in (pb.ListVoicesRequest(page_size=1001), pb.ListVoicesRequest(page_token="?")):
        with pytest.raises(aio.AioRpcError) as raised:
            await client.voices.ListVoices(request)
        assert raised.value.code() == StatusCode.INVALID_ARGUMENT


async def test_a_deleted_voice_is_gone_and_fails_the_next_turn_of_its_sessions(client: Client, redis_url: str) -> None:
    async with client.converse() as talk:
        await talk.ask("question")
        await client.voices.DeleteVoice(pb.DeleteVoiceRequest(voice_id="ada"))
        failed = await talk.ask("next")
    assert failed.error.code == StatusCode.NOT_FOUND.value[0]
    for call in (
        client.voices.GetVoice(pb.GetVoiceRequest(voice_id="ada")),
        client.voices.DeleteVoice(pb.DeleteVoiceRequest(voice_id="ada")),
    ):
        with pytest.raises(aio.AioRpcError) as raised:
            await call
        assert raised.value.code() == StatusCode.NOT_FOUND
    async with Redis.from_url(redis_url) as redis:
        keys: list[Any] = await redis.keys("*{default[:}]*")
    kinds = {key.split(b":")[1] for key in keys}
    counts = {b"held", b"held_until", b"used", b"used_by"}
    stored = {b"consent", b"consents", b"revoked_recordings", b"session"}
    assert kinds - counts == stored, "the session of the conversation, and nothing of the voice"


async def test_a_voice_is_kept_in_its_canonical_form(client: Client, redis_url: str) -> None:
    async with Redis.from_url(redis_url) as redis:
        fields: dict[Any, Any] = await redis.hgetall("chroma:voice:{default}:ada")
    codes = np.frombuffer(fields[b"codes"], dtype="<u2").reshape(-1, 8)
    assert codes.shape == (25, 8)
    assert np.frombuffer(fields[b"transcript_ids"], dtype="<u4").tolist() == list(b"hello")
    assert fields[b"consent"] == b"Ada agreed in writing"
