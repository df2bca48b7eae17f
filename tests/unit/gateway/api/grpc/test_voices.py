"""VoiceService: pages, and what it refuses."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from chroma.v1 import dialogue_pb2 as pb
from gateway.api.grpc.voices import VoiceServicer
from gateway.conversation.backend import Backend
from gateway.store.voices import MAX_PAGE_SIZE
from services.common.errors import InvalidArgument, NotFound

_CALL = SimpleNamespace(invocation_metadata=lambda: None)
"""The context of a call without metadata."""


@pytest.fixture
def voices(backend: Backend) -> VoiceServicer:
    return VoiceServicer(backend)


async def test_the_token_of_a_page_leads_to_the_next_one(voices: VoiceServicer) -> None:
    first = await voices.ListVoices(pb.ListVoicesRequest(page_size=2), None)
    assert [voice.voice_id for voice in first.voices] == ["ada", "bob"]
    second = await voices.ListVoices(pb.ListVoicesRequest(page_size=2, page_token=first.next_page_token), None)
    assert [voice.voice_id for voice in second.voices] == ["eve"]
    assert second.next_page_token == ""


async def test_no_page_size_means_the_default(voices: VoiceServicer) -> None:
    assert len((await voices.ListVoices(pb.ListVoicesRequest(), None)).voices) == 3


@pytest.mark.parametrize(
    "request_", [pb.ListVoicesRequest(page_size=MAX_PAGE_SIZE + 1), pb.ListVoicesRequest(page_token="No Id")], ids=str
)
async def test_too_large_a_page_and_a_token_that_is_no_id_are_invalid(
    voices: VoiceServicer, request_: pb.ListVoicesRequest
) -> None:
    with pytest.raises(InvalidArgument):
        await voices.ListVoices(request_, None)


async def test_a_deleted_voice_is_not_found(voices: VoiceServicer) -> None:
    assert (await voices.GetVoice(pb.GetVoiceRequest(voice_id="ada"), None)).voice.display_name == "Ada"
    await voices.DeleteVoice(pb.DeleteVoiceRequest(voice_id="ada"), None)
    with pytest.raises(NotFound):
        await voices.GetVoice(pb.GetVoiceRequest(voice_id="ada"), None)


async def test_a_voice_without_consent_is_refused(voices: VoiceServicer) -> None:
    with pytest.raises(InvalidArgument, match="consent"):
        await voices.CreateVoice(pb.CreateVoiceRequest(voice_id="new", transcript="hello"), _CALL)
