"""TenantService: the erasure of all data of a tenant."""

from __future__ import annotations

from typing import Any

from chroma.v1 import erasure_pb2 as pb
from chroma.v1 import erasure_pb2_grpc
from gateway.api.auth import call_caller
from gateway.api.grpc.messages import erasure_message
from gateway.conversation.backend import Backend


class TenantServicer(erasure_pb2_grpc.TenantServiceServicer):
    """The service as erasure.proto specifies it."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def EraseTenant(self, request: pb.EraseTenantRequest, context: Any) -> pb.EraseTenantResponse:  # noqa: N802
        erased = await self._backend.eraser.tenant(call_caller())
        return pb.EraseTenantResponse(
            sessions=erased.sessions, voices=erased.voices, erasure=erasure_message(erased.erasure)
        )
