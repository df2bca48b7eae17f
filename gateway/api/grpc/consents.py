"""ConsentService: reads, lists and revokes consents."""

from __future__ import annotations

from typing import Any

from chroma.v1 import consent_pb2 as pb
from chroma.v1 import consent_pb2_grpc
from gateway.api.auth import call_caller
from gateway.api.grpc.messages import consent_message, erasure_message
from gateway.conversation.backend import Backend
from gateway.store.consents import DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE, check_consent_id
from services.common.errors import InvalidArgument


class ConsentServicer(consent_pb2_grpc.ConsentServiceServicer):
    """The service as consent.proto specifies it."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._consents = backend.voices.consents

    async def GetConsent(self, request: pb.GetConsentRequest, context: Any) -> pb.GetConsentResponse:  # noqa: N802
        consent = await self._consents.get(call_caller().tenant, request.consent_id)
        return pb.GetConsentResponse(consent=consent_message(consent))

    async def ListConsents(self, request: pb.ListConsentsRequest, context: Any) -> pb.ListConsentsResponse:  # noqa: N802
        if request.page_size > MAX_PAGE_SIZE:
            raise InvalidArgument(f"expected a page size of at most {MAX_PAGE_SIZE}, got {request.page_size}")
        if request.page_token:
            check_consent_id(request.page_token)
        consents, more = await self._consents.page(
            call_caller().tenant, after=request.page_token, size=request.page_size or DEFAULT_PAGE_SIZE
        )
        token = consents[-1].consent_id if more and consents else ""
        return pb.ListConsentsResponse(consents=map(consent_message, consents), next_page_token=token)

    async def RevokeConsent(self, request: pb.RevokeConsentRequest, context: Any) -> pb.RevokeConsentResponse:  # noqa: N802
        consent, erasure = await self._backend.eraser.consent(call_caller(), request.consent_id)
        return pb.RevokeConsentResponse(consent=consent_message(consent), erasure=erasure_message(erasure))
