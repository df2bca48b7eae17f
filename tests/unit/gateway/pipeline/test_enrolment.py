"""Enrolment: what is refused before any call, and how the two calls follow each other."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chroma.v1.audio_pb2 import CodeFrames
from chroma.v1.codec_pb2 import EncodeResponse
from chroma.v1.speech_gen_pb2 import EnrollVoiceRequest, EnrollVoiceResponse
from gateway.access.audit import AuditLog
from gateway.access.usage import Usage
from gateway.pipeline.enrolment import NewVoice, add_voice, enrol, ephemeral_voice
from gateway.settings import GatewaySettings
from gateway.store.embeddings import EmbeddingLimits
from gateway.store.redis import Store
from gateway.store.voices import Voices
from gateway.tasks import cancel
from services.common.errors import InvalidArgument, Unavailable
from tests.support.fake_calls import FakeUpstream, FakeUpstreamPool
from tests.support.fake_store import CALLER
from tests.support.gateway_client import audio_file, speech
from tests.support.hurt_store import raw

_SETTINGS = GatewaySettings(reasoner="a:1", speech_gen="b:1", codec="c:1", redis_url="redis://c:1")
_USAGE = Usage(None, _SETTINGS)


class EnrollingSpeechGen(FakeUpstream):
    """A speech generator that enrols every voice."""

    def __init__(self) -> None:
        super().__init__("speech_gen")
        self.enrolled: list[EnrollVoiceRequest] = []

    async def EnrollVoice(  # noqa: N802
        self, request: EnrollVoiceRequest, **options: Any
    ) -> EnrollVoiceResponse:
        """The request's frames, as a voice of checkpoint `one`."""
        self.enrolled.append(request)
        return EnrollVoiceResponse(checkpoint_fingerprint="one")


async def test_a_recording_is_encoded_in_pieces_of_a_second_and_its_codes_are_enrolled() -> None:
    speech_gen = EnrollingSpeechGen()
    upstreams: Any = FakeUpstreamPool(speech_gen=speech_gen)
    samples = np.zeros(24_000 + 1, dtype=np.float32)
    enrolling = asyncio.ensure_future(enrol(samples, "hello", upstreams, key="ada"))
    encode = await upstreams.codec.calls.get()
    opened, first, second = [await encode.requests.get() for _ in range(3)]
    assert opened.open.format.sample_rate_hz == 24_000
    assert (first.pcm.first_sample, len(first.pcm.data)) == (0, 4 * 24_000)
    assert (second.pcm.first_sample, len(second.pcm.data)) == (24_000, 4)
    encode.answer(EncodeResponse(frames=CodeFrames(codes=[1] * 8)), EncodeResponse(frames=CodeFrames(codes=[2] * 8)))
    encode.end()
    assert (await enrolling).checkpoint_fingerprint == "one"
    (request,) = speech_gen.enrolled
    assert list(request.frames.codes) == [1] * 8 + [2] * 8
    assert request.transcript == "hello"
    assert upstreams.codec.keys == speech_gen.keys == ["ada"]


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"voice_id": "-eve"}, "expected a voice id"),
        ({"transcript": " "}, "transcript"),
        ({"transcript": "a" * 4_001}, "transcript of at most 4000 characters, got 4001"),
        ({"consent": " "}, "who agreed"),
        ({"consent": "\u200b"}, "who agreed"),
        ({"consent": "."}, "in words"),
        ({"consent": "a" * 4_001}, "consent of at most 4000 characters, got 4001"),
        ({"consent": "\ud800"}, "surrogate"),
        ({"subject": "a" * 201}, "consent_subject of at most 200 characters"),
        ({"display_name": "a" * 201}, "display name of at most 200 characters, got 201"),
        ({"idempotency_key": "a" * 201}, "idempotency key of at most 200 characters"),
    ],
)
@pytest.mark.parametrize("add", [add_voice, ephemeral_voice])
async def test_a_bad_request_for_a_voice_reaches_no_upstream_and_no_store(
    add: Any, changes: dict[str, str], complaint: str
) -> None:
    upstreams: Any = FakeUpstreamPool()
    store = Store("redis://127.0.0.1:1")
    wanted = replace(NewVoice(b"", "hello", "agreed", voice_id="eve"), **changes)
    with pytest.raises(InvalidArgument, match=complaint):
        await add(Voices(store, EmbeddingLimits(1, 1)), upstreams, AuditLog(), _USAGE, CALLER, wanted)
    assert upstreams.codec.keys == []
    await store.close()


async def test_nothing_is_enrolled_when_the_audit_log_cannot_be_written(store: Store, tmp_path: Path) -> None:
    audit = AuditLog(tmp_path / "audit.log")
    (tmp_path / "audit.log").unlink()
    (tmp_path / "audit.log").mkdir()
    voices = Voices(store, EmbeddingLimits(1, 1))
    upstreams: Any = FakeUpstreamPool(speech_gen=EnrollingSpeechGen())
    recording = audio_file(speech(2))
    for add in (add_voice, ephemeral_voice):
        enrolling = asyncio.ensure_future(
            add(voices, upstreams, audit, _USAGE, CALLER, NewVoice(recording, "hello", "agreed", voice_id="eve"))
        )
        calls = asyncio.ensure_future(_answer(upstreams))
        with pytest.raises(Unavailable, match="audit log"):
            await enrolling
        await cancel(calls)
    assert await raw(store).keys("*") == []
    await audit.close()


async def _answer(upstreams: Any) -> None:
    """Answer the next Encode call."""
    encode = await upstreams.codec.calls.get()
    encode.answer(EncodeResponse(frames=CodeFrames(codes=[1] * 8)))
    encode.end()
