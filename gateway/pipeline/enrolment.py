"""Enrolment: a recording becomes a voice, by codec.Encode and speech_gen.EnrollVoice."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from functools import partial
from typing import Any

from grpc import aio

from chroma.v1.audio_pb2 import AUDIO_ENCODING_PCM_F32LE, AudioFormat, CodeFrames, Pcm
from chroma.v1.codec_pb2 import EncodeOpen, EncodeRequest
from chroma.v1.speech_gen_pb2 import EnrollVoiceRequest, EnrollVoiceResponse
from gateway.audio.read import read_recording
from gateway.pipeline.calls import fed_call, upstream_error
from gateway.pipeline.upstreams import Upstream, UpstreamPool
from gateway.store.voices import SpokenVoice, Voice, Voices, check_voice_id, new_voice_id
from services.common.errors import AlreadyExists, InvalidArgument
from services.common.rpc.context import outgoing_metadata
from services.common.wire.audio import SAMPLE_RATE_HZ
from services.common.wire.pcm import Samples, encode_pcm

_CHUNK_SAMPLES = SAMPLE_RATE_HZ


async def add_voice(
    voices: Voices,
    upstreams: UpstreamPool,
    tenant: str,
    *,
    voice_id: str,
    display_name: str,
    audio_file: bytes,
    transcript: str,
    consent: str,
) -> Voice:
    """Enrol a voice and keep it in the store. An empty `voice_id` asks for a new one.

    Raises InvalidArgument, AlreadyExists, Unavailable, or the domain error of the upstream that failed.
    """
    voice_id = voice_id or new_voice_id()
    check_voice_id(voice_id)
    transcript, consent = transcript.strip(), consent.strip()
    if not transcript:
        raise InvalidArgument("expected the recording's transcript, got none")
    if not consent:
        raise InvalidArgument("expected `consent`: who agreed to the cloning of this voice, and how")
    if await voices.exists(tenant, voice_id):
        raise AlreadyExists(f"the voice {voice_id!r} exists: delete it first, or choose another id")
    samples = await read_recording(audio_file)
    enrolled = await enrol(samples, transcript, upstreams, key=voice_id)
    voice = Voice(
        voice_id=voice_id,
        display_name=display_name or voice_id,
        transcript=transcript,
        consent=consent,
        duration_s=len(samples) / SAMPLE_RATE_HZ,
        created=time.time(),
    )
    await voices.create(tenant, voice, enrolled)
    return voice


async def ephemeral_voice(upstreams: UpstreamPool, audio_file: bytes, transcript: str) -> SpokenVoice:
    """A voice for one request, which is not stored.

    Raises InvalidArgument or the domain error of the upstream that failed.
    """
    if not transcript.strip():
        raise InvalidArgument("expected the recording's transcript, got none")
    samples = await read_recording(audio_file)
    name = new_voice_id()
    enrolled = await enrol(samples, transcript.strip(), upstreams, key=name)
    return SpokenVoice(name, enrolled.prompt)


async def enrol(samples: Samples, transcript: str, upstreams: UpstreamPool, *, key: str) -> EnrollVoiceResponse:
    """The voice of a recording: samples [S] at 24 kHz and what they say. `key` picks the replicas.

    Raises the domain error of the upstream that failed.
    """
    frames = await upstreams.codec.call_with_failover(key, partial(_encode, upstreams.codec, samples))
    request = EnrollVoiceRequest(frames=frames, transcript=transcript)
    return await upstreams.speech_gen.call_with_failover(key, partial(enrol_at, upstreams.speech_gen, request))


async def _encode(codec: Upstream, samples: Samples, stub: Any) -> CodeFrames:
    frames = CodeFrames()
    requests = _encode_requests(samples)
    call = fed_call(codec.name, stub.Encode, requests, limit_s=codec.limit_s, read_timeout_s=codec.read_timeout_s)
    async with call as answers:
        answers.expect()
        async for answer in answers:
            frames.codes.extend(answer.frames.codes)
    return frames


async def enrol_at(speech_gen: Upstream, request: EnrollVoiceRequest, stub: Any) -> EnrollVoiceResponse:
    """Call EnrollVoice at the replica of this stub. Raises the replica's domain error."""
    try:
        return await stub.EnrollVoice(request, timeout=speech_gen.limit_s, metadata=outgoing_metadata())
    except aio.AioRpcError as error:
        raise upstream_error(speech_gen.name, error) from None


async def _encode_requests(samples: Samples) -> AsyncGenerator[EncodeRequest, None]:
    audio_format = AudioFormat(encoding=AUDIO_ENCODING_PCM_F32LE, sample_rate_hz=SAMPLE_RATE_HZ)
    yield EncodeRequest(open=EncodeOpen(format=audio_format))
    for first in range(0, len(samples), _CHUNK_SAMPLES):
        data = encode_pcm(samples[first : first + _CHUNK_SAMPLES], AUDIO_ENCODING_PCM_F32LE)
        yield EncodeRequest(pcm=Pcm(first_sample=first, data=data))
