import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest
from grpc import aio
from prometheus_client import REGISTRY

from chroma.v1 import codec_pb2, codec_pb2_grpc, dialogue_pb2, dialogue_pb2_grpc
from services.common.errors import NotFound
from services.common.rpc.server import Server
from services.common.settings import ServiceSettings

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


class Codec(codec_pb2_grpc.CodecServiceServicer):
    async def Decode(self, request_iterator: Any, context: Any) -> AsyncIterator[codec_pb2.DecodeResponse]:  # noqa: N802
        yield codec_pb2.DecodeResponse()
        yield codec_pb2.DecodeResponse()


class Dialogue(dialogue_pb2_grpc.DialogueServiceServicer):
    async def GetSession(  # noqa: N802
        self, request: dialogue_pb2.GetSessionRequest, context: Any
    ) -> dialogue_pb2.GetSessionResponse:
        if request.session_id == "none":
            raise NotFound("no session")
        return dialogue_pb2.GetSessionResponse()

    async def Converse(  # noqa: N802  # pyright: ignore[reportIncompatibleMethodOverride]
        self, request_iterator: Any, context: Any
    ) -> None:
        await context.write(dialogue_pb2.ConverseResponse())


@pytest.fixture
async def channel() -> AsyncIterator[aio.Channel]:
    server = Server(ServiceSettings())
    codec_pb2_grpc.add_CodecServiceServicer_to_server(Codec(), server.grpc)  # pyright: ignore[reportAbstractUsage]
    dialogue_pb2_grpc.add_DialogueServiceServicer_to_server(Dialogue(), server.grpc)  # pyright: ignore[reportAbstractUsage]
    port = await server.start()
    async with aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield channel
    await server.grpc.stop(0)


def calls(method: str, status: str) -> float:
    return REGISTRY.get_sample_value("chroma_voice_rpcs_total", {"method": method, "status": status}) or 0.0


async def test_calls_are_counted_by_the_status_they_end_with(channel: aio.Channel) -> None:
    stub = dialogue_pb2_grpc.DialogueServiceStub(channel)
    good, bad = (calls("DialogueService/GetSession", status) for status in ("OK", "NOT_FOUND"))
    await stub.GetSession(dialogue_pb2.GetSessionRequest(session_id="some"))
    with pytest.raises(aio.AioRpcError):
        await stub.GetSession(dialogue_pb2.GetSessionRequest(session_id="none"))
    assert calls("DialogueService/GetSession", "OK") == good + 1
    assert calls("DialogueService/GetSession", "NOT_FOUND") == bad + 1


async def test_a_stream_handler_that_writes_is_counted_too(channel: aio.Channel) -> None:
    before = calls("DialogueService/Converse", "OK")
    answers = [answer async for answer in dialogue_pb2_grpc.DialogueServiceStub(channel).Converse(iter(()))]
    assert len(answers) == 1
    assert calls("DialogueService/Converse", "OK") == before + 1
    assert REGISTRY.get_sample_value("chroma_voice_rpcs_running", {"method": "DialogueService/Converse"}) == 0


async def test_a_call_of_a_turn_leaves_a_span_in_the_callers_trace(
    channel: aio.Channel, caplog: pytest.LogCaptureFixture
) -> None:
    metadata = (("chroma-turn-id", "turn-7"), ("traceparent", PARENT))
    with caplog.at_level(logging.INFO):
        async for _ in codec_pb2_grpc.CodecServiceStub(channel).Decode(iter(()), metadata=metadata):
            pass
    (record,) = (one.__dict__["fields"] for one in caplog.records if hasattr(one, "fields"))
    assert (record["span"], record["turn"], record["status"]) == ("CodecService/Decode", "turn-7", "OK")
    assert (record["trace_id"], record["parent_id"]) == (PARENT[3:35], PARENT[36:52])
    assert "first_answer" in record["marks"]


async def test_a_call_outside_any_turn_leaves_no_span(channel: aio.Channel, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        async for _ in codec_pb2_grpc.CodecServiceStub(channel).Decode(iter(())):
            pass
    assert not [one for one in caplog.records if hasattr(one, "fields")]
