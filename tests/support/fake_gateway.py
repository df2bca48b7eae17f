"""A scripted gateway on real gRPC: voices in a dictionary, and one fixed reply to every turn."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio

from chroma.v1 import (
    audio_pb2,
    consent_pb2,
    consent_pb2_grpc,
    dialogue_pb2,
    dialogue_pb2_grpc,
    generation_pb2,
)

WORDS = ("Fold ", "a tortilla", ".")
SAMPLES_PER_DELTA = 1920


class FakeGateway(
    dialogue_pb2_grpc.DialogueServiceServicer,
    dialogue_pb2_grpc.VoiceServiceServicer,
    consent_pb2_grpc.ConsentServiceServicer,
):
    """A gateway whose attributes a test sets. `requests` is what Converse received; `ended` says how the call ended,
    once `finished` is set. `metadata` is what each call of CreateVoice and Converse carried. While `lost_answers` is
    above 0, CreateVoice does its work and its answer is lost.
    """

    def __init__(self) -> None:
        self.voices: dict[str, dialogue_pb2.Voice] = {"reader": dialogue_pb2.Voice(voice_id="reader", duration_s=7.1)}
        self.consents: dict[str, consent_pb2.Consent] = {}
        self.sessions: dict[str, dialogue_pb2.Session] = {}
        self.requests: list[dialogue_pb2.ConverseRequest] = []
        self.ended = ""
        self.finished = asyncio.Event()
        self.turn_error: dialogue_pb2.TurnError | None = None
        self.abort_after_first_audio: grpc.StatusCode | None = None
        self.hold_after_first_audio = False
        self.abort_trailers: tuple[tuple[str, str], ...] = ()
        self.page = 2
        self.metadata: list[dict[str, str]] = []
        self.lost_answers = 0
        self.script: list[dialogue_pb2.ConverseResponse] = []
        """What Converse sends at once after `opened`, and then ends. Empty: it answers."""
        self._created: dict[str, dialogue_pb2.CreateVoiceResponse] = {}

    async def CreateVoice(self, request: Any, context: Any):  # noqa: N802
        self.metadata.append(dict(context.invocation_metadata()))
        attempt = self.metadata[-1].get("chroma-idempotency-key", "")
        if attempt in self._created:
            return self._created[attempt]
        if request.voice_id in self.voices:
            await context.abort(grpc.StatusCode.ALREADY_EXISTS, f"voice {request.voice_id} exists")
        voice = dialogue_pb2.Voice(
            voice_id=request.voice_id,
            display_name=request.display_name or request.voice_id,
            transcript=request.transcript,
            consent=request.consent,
            duration_s=len(request.audio_file) / 100,
            consent_id=f"consent-{len(self.consents)}",
        )
        consent = consent_pb2.Consent(
            consent_id=voice.consent_id, subject=request.consent_subject, words=request.consent, key_id="key-1"
        )
        consent.create_time.FromSeconds(1_700_000_000)
        consent.voices.add(voice_id=voice.voice_id).create_time.FromSeconds(1_700_000_000)
        self.consents[consent.consent_id] = consent
        voice.create_time.FromSeconds(1_700_000_000)
        self.voices[request.voice_id] = voice
        self._created[attempt] = dialogue_pb2.CreateVoiceResponse(voice=voice)
        if self.lost_answers:
            self.lost_answers -= 1
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the answer is lost")
        return self._created[attempt]

    async def GetVoice(self, request: Any, context: Any):  # noqa: N802
        return dialogue_pb2.GetVoiceResponse(voice=await self._voice(request.voice_id, context))

    async def ListVoices(self, request: Any, context: Any):  # noqa: N802
        ids = sorted(self.voices)
        start = int(request.page_token or 0)
        stop = start + self.page
        return dialogue_pb2.ListVoicesResponse(
            voices=[self.voices[voice_id] for voice_id in ids[start:stop]],
            next_page_token=str(stop) if stop < len(ids) else "",
        )

    async def DeleteVoice(self, request: Any, context: Any):  # noqa: N802
        await self._voice(request.voice_id, context)
        del self.voices[request.voice_id]
        return dialogue_pb2.DeleteVoiceResponse()

    async def GetConsent(self, request: Any, context: Any):  # noqa: N802
        return consent_pb2.GetConsentResponse(consent=await self._consent(request.consent_id, context))

    async def ListConsents(self, request: Any, context: Any):  # noqa: N802
        start = int(request.page_token or 0)
        stop = start + self.page
        consents = list(self.consents.values())
        return consent_pb2.ListConsentsResponse(
            consents=consents[start:stop], next_page_token=str(stop) if stop < len(consents) else ""
        )

    async def RevokeConsent(self, request: Any, context: Any):  # noqa: N802
        consent = await self._consent(request.consent_id, context)
        consent.revoke_time.FromSeconds(1_700_000_100)
        for voice in consent.voices:
            voice.erase_time.FromSeconds(1_700_000_100)
            self.voices.pop(voice.voice_id, None)
        return consent_pb2.RevokeConsentResponse(consent=consent)

    async def CreateSession(self, request: Any, context: Any):  # noqa: N802
        await self._voice(request.config.voice_id, context)
        session = dialogue_pb2.Session(session_id=f"s{len(self.sessions)}", config=request.config)
        self.sessions[session.session_id] = session
        return dialogue_pb2.CreateSessionResponse(session=session)

    async def GetSession(self, request: Any, context: Any):  # noqa: N802
        return dialogue_pb2.GetSessionResponse(session=await self._session(request.session_id, context))

    async def UpdateSession(self, request: Any, context: Any):  # noqa: N802
        session = await self._session(request.session_id, context)
        session.config.MergeFrom(request.config)
        return dialogue_pb2.UpdateSessionResponse(session=session)

    async def DeleteSession(self, request: Any, context: Any):  # noqa: N802
        await self._session(request.session_id, context)
        del self.sessions[request.session_id]
        return dialogue_pb2.DeleteSessionResponse()

    async def Converse(self, request_iterator: Any, context: Any):  # noqa: N802
        self.metadata.append(dict(context.invocation_metadata()))
        context.add_done_callback(self._over)
        async for request in request_iterator:
            self.requests.append(request)
            match request.WhichOneof("request"):
                case "open":
                    yield await self._opened(request.open, context)
                    for response in self.script:
                        yield response
                    if self.script:
                        return
                case "commit":
                    async for response in self._reply(context):
                        yield response
                case "say" if request.say.end:
                    async for response in self._reply(context):
                        yield response

    def _over(self, context: Any) -> None:
        self.ended = self.ended or "closed"
        self.finished.set()

    async def _opened(self, opening: Any, context: Any) -> dialogue_pb2.ConverseResponse:
        if opening.WhichOneof("session") == "session_id":
            session = await self._session(opening.session_id, context)
        else:
            await self._voice(opening.new_session.voice_id, context)
            session = dialogue_pb2.Session(session_id="new", config=opening.new_session)
        return dialogue_pb2.ConverseResponse(opened=dialogue_pb2.ConverseOpened(session=session))

    async def _reply(self, context: Any) -> AsyncIterator[dialogue_pb2.ConverseResponse]:
        turn_id = "turn-1"
        done = dialogue_pb2.TurnDone(turn_id=turn_id, outcome=dialogue_pb2.TURN_OUTCOME_COMPLETED, recorded=True)
        yield dialogue_pb2.ConverseResponse(turn_started=dialogue_pb2.TurnStarted(turn_id=turn_id))
        if self.turn_error is not None:
            done.outcome = dialogue_pb2.TURN_OUTCOME_FAILED
            done.error.CopyFrom(self.turn_error)
            yield dialogue_pb2.ConverseResponse(turn_done=done)
            return
        for index, word in enumerate(WORDS):
            text = dialogue_pb2.TextDelta(turn_id=turn_id, text=word, audio_offset_ms=160 * index)
            yield dialogue_pb2.ConverseResponse(text=text)
            data = index.to_bytes(2, "little") * SAMPLES_PER_DELTA
            pcm = audio_pb2.Pcm(first_sample=index * SAMPLES_PER_DELTA, data=data)
            yield dialogue_pb2.ConverseResponse(audio=dialogue_pb2.AudioDelta(turn_id=turn_id, pcm=pcm))
            if self.hold_after_first_audio:
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    self.ended = "cancelled"
                    raise
            if self.abort_after_first_audio is not None:
                await context.abort(self.abort_after_first_audio, "told to", self.abort_trailers)
        done.text = "".join(WORDS)
        done.output_audio_s = len(WORDS) * SAMPLES_PER_DELTA / 24_000
        done.speech_end = generation_pb2.END_REASON_EOS
        done.timings.heard_s = 0.010
        done.timings.first_thought_s = 0.015
        done.timings.first_frame_s = 0.020
        done.timings.first_audio_s = 0.025
        done.timings.last_thought_s = 0.030
        done.timings.last_frame_s = 0.040
        done.timings.last_audio_s = 0.050
        yield dialogue_pb2.ConverseResponse(turn_done=done)

    async def _voice(self, voice_id: str, context: Any) -> dialogue_pb2.Voice:
        if voice_id not in self.voices:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"no voice {voice_id}")
        return self.voices[voice_id]

    async def _consent(self, consent_id: str, context: Any) -> consent_pb2.Consent:
        if consent_id not in self.consents:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"no consent {consent_id}")
        return self.consents[consent_id]

    async def _session(self, session_id: str, context: Any) -> dialogue_pb2.Session:
        if session_id not in self.sessions:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"no session {session_id}")
        return self.sessions[session_id]


@asynccontextmanager
async def serving(gateway: FakeGateway, credentials: grpc.ServerCredentials | None = None) -> AsyncIterator[str]:
    """Serve `gateway` on a free loopback port, by TLS with `credentials`. Yields its address."""
    server = grpc.aio.server()
    dialogue_pb2_grpc.add_DialogueServiceServicer_to_server(gateway, server)
    dialogue_pb2_grpc.add_VoiceServiceServicer_to_server(gateway, server)
    consent_pb2_grpc.add_ConsentServiceServicer_to_server(gateway, server)
    address = "127.0.0.1:0"
    port = server.add_secure_port(address, credentials) if credentials else server.add_insecure_port(address)
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)
