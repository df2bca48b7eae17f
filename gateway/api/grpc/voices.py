"""VoiceService: enrols, reads, lists and deletes voices."""

from __future__ import annotations

from typing import Any

from chroma.v1 import dialogue_pb2 as pb
from chroma.v1 import dialogue_pb2_grpc
from gateway.api.auth import call_caller
from gateway.api.grpc.messages import erasure_message, voice_message
from gateway.conversation.backend import Backend
from gateway.pipeline.enrolment import NewVoice, add_voice
from gateway.store.voices import DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE, check_voice_id
from services.common.errors import InvalidArgument


class VoiceServicer(dialogue_pb2_grpc.VoiceServiceServicer):
    """The service as dialogue.proto specifies it."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._voices = backend.voices

    async def CreateVoice(self, request: pb.CreateVoiceRequest, context: Any) -> pb.CreateVoiceResponse:  # noqa: N802
        metadata = dict(context.invocation_metadata() or ())
        wanted = NewVoice(
            audio_file=request.audio_file,
            transcript=request.transcript,
            consent=request.consent,
            subject=request.consent_subject,
            voice_id=request.voice_id,
            display_name=request.display_name,
            idempotency_key=str(metadata.get("chroma-idempotency-key", "")),
        )
        backend = self._backend
        voice = await add_voice(self._voices, backend.upstreams, backend.audit, backend.usage, call_caller(), wanted)
        return pb.CreateVoiceResponse(voice=voice_message(voice, call_caller()))

    async def GetVoice(self, request: pb.GetVoiceRequest, context: Any) -> pb.GetVoiceResponse:  # noqa: N802
        voice = await self._voices.get(call_caller().tenant, request.voice_id)
        return pb.GetVoiceResponse(voice=voice_message(voice, call_caller()))

    async def ListVoices(self, request: pb.ListVoicesRequest, context: Any) -> pb.ListVoicesResponse:  # noqa: N802
        if request.page_size > MAX_PAGE_SIZE:
            raise InvalidArgument(f"expected a page size of at most {MAX_PAGE_SIZE}, got {request.page_size}")
        if request.page_token:
            check_voice_id(request.page_token)
        voices, more = await self._voices.page(
            call_caller().tenant, after=request.page_token, size=request.page_size or DEFAULT_PAGE_SIZE
        )
        token = voices[-1].voice_id if more and voices else ""
        return pb.ListVoicesResponse(
            voices=[voice_message(voice, call_caller()) for voice in voices], next_page_token=token
        )

    async def DeleteVoice(self, request: pb.DeleteVoiceRequest, context: Any) -> pb.DeleteVoiceResponse:  # noqa: N802
        erasure = await self._backend.eraser.voice(call_caller(), request.voice_id)
        return pb.DeleteVoiceResponse(erasure=erasure_message(erasure))
