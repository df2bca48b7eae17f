"""Enrolment: what is refused before any call, and how the two calls follow each other."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest

from chroma.v1.audio_pb2 import CodeFrames
from chroma.v1.codec_pb2 import EncodeResponse
from chroma.v1.speech_gen_pb2 import EnrollVoiceRequest, EnrollVoiceResponse
from gateway.pipeline.enrolment import add_voice, enrol, ephemeral_voice
from gateway.store.embeddings import EmbeddingLimits
from gateway.store.redis import Store
from gateway.store.voices import Voices
from services.common.errors import InvalidArgument
from tests.support.fake_calls import FakeUpstream, FakeUpstreamPool


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
        ({"consent": " "}, "consent"),
    ],
)
async def test_a_bad_request_for_a_voice_reaches_no_upstream(changes: dict[str, str], complaint: str) -> None:
    upstreams: Any = FakeUpstreamPool()
    store = Store("redis://127.0.0.1:1")
    fields = {"voice_id": "eve", "display_name": "", "transcript": "hello", "consent": "agreed", **changes}
    with pytest.raises(InvalidArgument, match=complaint):
        await add_voice(Voices(store, EmbeddingLimits(1, 1)), upstreams, "t", audio_file=b"", **fields)
    assert upstreams.codec.keys == []
    await store.close()


async def test_an_ephemeral_voice_needs_a_transcript() -> None:
    upstreams: Any = FakeUpstreamPool()
    with pytest.raises(InvalidArgument, match="transcript"):
        await ephemeral_voice(upstreams, b"", "  ")
