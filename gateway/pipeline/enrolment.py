"""Enrolment: a recording becomes a voice, by codec.Encode and speech_gen.EnrollVoice."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from grpc import StatusCode, aio

from chroma.v1.audio_pb2 import AUDIO_ENCODING_PCM_F32LE, AudioFormat, CodeFrames, Pcm
from chroma.v1.codec_pb2 import EncodeOpen, EncodeRequest
from chroma.v1.speech_gen_pb2 import EnrollVoiceRequest, EnrollVoiceResponse
from gateway.access.audit import BEGUN, AuditLog
from gateway.access.caller import Caller
from gateway.access.limits import LimitName
from gateway.access.usage import Usage
from gateway.audio.read import read_recording
from gateway.pipeline.calls import Hangs, fed_call, upstream_error
from gateway.pipeline.upstreams import Upstream, UpstreamPool
from gateway.store.consents import Consent
from gateway.store.voices import RequestKey, SpokenVoice, Voice, Voices, check_voice_id, new_voice_id
from services.common.errors import AlreadyExists, ChromaError, FailedPrecondition, InvalidArgument
from services.common.rpc.context import outgoing_metadata
from services.common.wire.audio import SAMPLE_RATE_HZ
from services.common.wire.pcm import Samples, encode_pcm

MAX_TRANSCRIPT_CHARS = 4_000
"""A recording of 30 s has some 500 characters of speech; the limit leaves room for any language and notation."""
MAX_CONSENT_CHARS = 4_000
MAX_NAME_CHARS = 200
"""Of a voice, of the person who consented, and of an idempotency key."""

_CHUNK_SAMPLES = SAMPLE_RATE_HZ


@dataclass(frozen=True)
class NewVoice:
    """A request for a voice, as the caller sent it."""

    audio_file: bytes
    transcript: str
    consent: str
    """Who agreed to the cloning of the voice, and how."""
    subject: str = ""
    """The person who agreed. Empty: only `consent` says it."""
    voice_id: str = ""
    """Empty: the gateway makes an id."""
    display_name: str = ""
    """Empty: the id."""
    idempotency_key: str = ""
    """Names this request, so that it makes one voice however often it is sent within a day. Empty: it has no name."""

    def checked(self) -> NewVoice:
        """Return the request with its texts stripped. Raises InvalidArgument."""
        wanted = replace(
            self, transcript=self.transcript.strip(), consent=self.consent.strip(), subject=self.subject.strip()
        )
        if wanted.voice_id:
            check_voice_id(wanted.voice_id)
        if not wanted.transcript:
            raise InvalidArgument("expected the recording's transcript, got none")
        check_text("transcript", wanted.transcript, MAX_TRANSCRIPT_CHARS)
        check_text("consent", wanted.consent, MAX_CONSENT_CHARS)
        if not any(character.isalnum() for character in wanted.consent):
            raise InvalidArgument("expected `consent`: who agreed to the cloning of this voice, and how, in words")
        check_text("consent_subject", wanted.subject, MAX_NAME_CHARS)
        check_text("display name", wanted.display_name, MAX_NAME_CHARS)
        check_text("idempotency key", wanted.idempotency_key, MAX_NAME_CHARS)
        return wanted

    def digest(self) -> str:
        """A digest of everything that decides which voice comes of the request."""
        texts = [self.voice_id, self.display_name, self.transcript, self.consent, self.subject]
        told = json.dumps([*texts, hashlib.sha256(self.audio_file).hexdigest()])
        return hashlib.sha256(told.encode()).hexdigest()


def check_text(name: str, text: str, max_chars: int) -> None:
    """Raises InvalidArgument when a text of the client is longer than this, or holds half of a surrogate pair."""
    if len(text) > max_chars:
        raise InvalidArgument(f"expected a {name} of at most {max_chars} characters, got {len(text)}")
    if not text.isprintable() and any("\ud800" <= character <= "\udfff" for character in text):
        raise InvalidArgument(f"expected a {name} of Unicode characters, got half of a surrogate pair")


async def add_voice(
    voices: Voices, upstreams: UpstreamPool, audit: AuditLog, usage: Usage, caller: Caller, wanted: NewVoice
) -> Voice:
    """Enrol a voice and keep it in the store, with a record of the consent. The audit log has the attempt and its end.

    Raises InvalidArgument, AlreadyExists, FailedPrecondition (a consent for the recording is revoked), NotFound
    (the voice of an earlier call with this idempotency key is deleted), ResourceExhausted (the caller has no upload or
    voice left), Unavailable, or the domain error of the upstream that failed.
    """
    wanted = wanted.checked()
    request_key = RequestKey(wanted.idempotency_key, wanted.digest()) if wanted.idempotency_key else None
    if request_key and (made := await voices.requested(caller.tenant, request_key)):
        return await voices.get(caller.tenant, made)
    voice_id = wanted.voice_id or new_voice_id()
    if await voices.exists(caller.tenant, voice_id):
        raise AlreadyExists(f"the voice {voice_id!r} exists: delete it first, or choose another id")
    consent = _consent(caller, wanted.consent, wanted.subject, wanted.audio_file)
    await _check_recording(voices, audit, "voice.enrol", caller, consent)
    async with usage.upload(caller):
        samples = await read_recording(wanted.audio_file)
        enrolled = await enrol(samples, wanted.transcript, upstreams, key=voice_id)
    voice = Voice(
        voice_id=voice_id,
        display_name=wanted.display_name or voice_id,
        transcript=wanted.transcript,
        consent=wanted.consent,
        duration_s=len(samples) / SAMPLE_RATE_HZ,
        created=consent.created,
        consent_id=consent.consent_id,
    )
    names = {"voice": voice_id, "consent": consent.consent_id}
    await audit.record("voice.enrol", BEGUN, caller, **names)
    with audit.outcome("voice.enrol", caller, **names):
        await usage.hold(caller, LimitName.VOICES, voice_id, _size_of(voice, enrolled))
        try:
            made = await voices.create(caller.tenant, voice, enrolled, consent, request_key)
        except AlreadyExists:  # the voice that took the id is counted
            raise
        except ChromaError:
            await usage.let_go(caller.tenant, LimitName.VOICES, voice_id)
            raise
    if made != voice_id:
        await usage.let_go(caller.tenant, LimitName.VOICES, voice_id)
    return voice if made == voice_id else await voices.get(caller.tenant, made)


def _size_of(voice: Voice, enrolled: EnrollVoiceResponse) -> int:
    """The bytes that the store keeps for a voice, nearly: its texts and its prompt."""
    texts = sum(len(text.encode()) for text in (voice.display_name, voice.transcript, voice.consent))
    prompt = enrolled.prompt
    return texts + 2 * len(prompt.frames.codes) + 4 * len(prompt.transcript.ids)


async def ephemeral_voice(
    voices: Voices, upstreams: UpstreamPool, audit: AuditLog, usage: Usage, caller: Caller, wanted: NewVoice
) -> SpokenVoice:
    """A voice for one request, which is not stored. The record of its consent is stored.

    Raises InvalidArgument, FailedPrecondition (a consent for the recording is revoked), ResourceExhausted (the caller
    has no upload left), Unavailable, or the domain error of the upstream that failed.
    """
    wanted = wanted.checked()
    consent = _consent(caller, wanted.consent, wanted.subject, wanted.audio_file)
    await _check_recording(voices, audit, "voice.clone_once", caller, consent)
    async with usage.upload(caller):
        samples = await read_recording(wanted.audio_file)
        await audit.record("voice.clone_once", BEGUN, caller, consent=consent.consent_id)
        with audit.outcome("voice.clone_once", caller, consent=consent.consent_id):
            await voices.consents.add(consent)
            name = new_voice_id()
            enrolled = await enrol(samples, wanted.transcript, upstreams, key=name)
    return SpokenVoice(name, enrolled.prompt)


def _consent(caller: Caller, words: str, subject: str, audio_file: bytes) -> Consent:
    digest = hashlib.sha256(audio_file).hexdigest()
    return Consent(caller.tenant, subject, words, digest, caller.key_id, time.time())


async def check_recording(voices: Voices, audit: AuditLog, caller: Caller, audio_file: bytes) -> None:
    """Refuse a recording whose consent was revoked, for a caller that has to do something with it before it enrols it.
    Raises FailedPrecondition."""
    await _check_recording(voices, audit, "voice.enrol", caller, _consent(caller, "", "", audio_file))


async def _check_recording(voices: Voices, audit: AuditLog, action: str, caller: Caller, consent: Consent) -> None:
    """Refuse a recording whose consent was revoked, before anything is computed from it. Raises FailedPrecondition."""
    try:
        await voices.consents.check(consent)
    except FailedPrecondition as error:
        audit.note(action, error.status.lower(), caller, consent=consent.consent_id)
        raise


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
        async for answer in answers:
            frames.codes.extend(answer.frames.codes)
    return frames


async def enrol_at(speech_gen: Upstream, request: EnrollVoiceRequest, stub: Any) -> EnrollVoiceResponse:
    """Call EnrollVoice at the replica of this stub. Raises the replica's domain error."""
    try:
        return await stub.EnrollVoice(request, timeout=speech_gen.read_timeout_s, metadata=outgoing_metadata())
    except aio.AioRpcError as error:
        if error.code() is StatusCode.DEADLINE_EXCEEDED:
            raise Hangs(f"{speech_gen.name} hangs: it sent nothing for {speech_gen.read_timeout_s:g} s") from None
        raise upstream_error(speech_gen.name, error) from None


async def _encode_requests(samples: Samples) -> AsyncGenerator[EncodeRequest, None]:
    audio_format = AudioFormat(encoding=AUDIO_ENCODING_PCM_F32LE, sample_rate_hz=SAMPLE_RATE_HZ)
    yield EncodeRequest(open=EncodeOpen(format=audio_format))
    for first in range(0, len(samples), _CHUNK_SAMPLES):
        data = encode_pcm(samples[first : first + _CHUNK_SAMPLES], AUDIO_ENCODING_PCM_F32LE)
        yield EncodeRequest(pcm=Pcm(first_sample=first, data=data))
