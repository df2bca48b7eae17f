"""What one connection of a client may cost: calls, time, pings, and readers that stop."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from typing import Any

import grpc
import httpx
import pytest
from grpc import aio
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from chroma.v1 import dialogue_pb2 as pb
from chroma.v1 import dialogue_pb2_grpc
from tests.integration.gateway.conftest import Fakes, StartGateway
from tests.support.gateway_client import Client, new_voice

PINGING = (("grpc.keepalive_permit_without_calls", 1), ("grpc.http2.max_pings_without_data", 0))


def _narrow_socket() -> socket.socket:
    """A socket for which the system takes few bytes that its owner does not read."""
    narrow = socket.socket()
    narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    narrow.setblocking(False)
    return narrow


def _address(client: Client) -> tuple[str, int]:
    host, _, port = client.http_address.rpartition(":")
    return host, int(port)


async def _opened(stub: Any) -> Any:
    """A conversation that the gateway has opened."""
    call = stub.Converse()
    config = pb.SessionConfig(voice_id="ada")
    await call.write(pb.ConverseRequest(open=pb.ConverseOpen(new_session=config)))
    await call.read()
    return call


async def test_a_connection_has_a_limit_of_calls_and_further_ones_wait(start_gateway: StartGateway) -> None:
    async with start_gateway(grpc_streams=2) as client:
        await client.voices.CreateVoice(new_voice("ada"))
        async with aio.insecure_channel(client.address) as channel:
            stub = dialogue_pb2_grpc.DialogueServiceStub(channel)
            first, second = await _opened(stub), await _opened(stub)
            third = asyncio.create_task(_opened(stub))
            done, _ = await asyncio.wait([third], timeout=1)
            assert not done
            first.cancel()
            (await third).cancel()
            second.cancel()


async def test_a_grpc_connection_without_a_call_is_closed(start_gateway: StartGateway) -> None:
    async with (
        start_gateway(grpc_idle_s=1) as client,
        asyncio.timeout(30),
        aio.insecure_channel(client.address) as channel,
    ):
        await channel.channel_ready()
        await channel.wait_for_state_change(grpc.ChannelConnectivity.READY)


async def test_grpc_connections_have_a_limit(start_gateway: StartGateway) -> None:
    async with start_gateway(grpc_connections=3) as client, asyncio.timeout(30):
        host, _, port = client.address.rpartition(":")
        opened = [await asyncio.open_connection(host, int(port)) for _ in range(6)]

        async def closed(reader: asyncio.StreamReader) -> None:
            with contextlib.suppress(ConnectionResetError):
                while await reader.read(1_000):
                    pass

        reading = {asyncio.create_task(closed(reader)) for reader, _ in opened}
        refused: set[asyncio.Task[None]] = set()
        while len(refused) < 3:  # the test's own client has a connection too
            done, reading = await asyncio.wait(reading, return_when=asyncio.FIRST_COMPLETED)
            refused |= done
        await client.voices.ListVoices(pb.ListVoicesRequest())
        assert reading, "those within the limit stay"
        for _, writer in opened:
            writer.close()
        await asyncio.wait(reading)


@pytest.mark.slow  # pings take their time
@pytest.mark.parametrize(("least_s", "every_ms", "kept"), [(0.4, 1_000, True), (5.0, 100, False)])
async def test_a_client_may_ping_as_often_as_the_setting_says_and_not_more_often(
    start_gateway: StartGateway, least_s: float, every_ms: int, kept: bool
) -> None:
    options = (*PINGING, ("grpc.keepalive_time_ms", every_ms), ("grpc.use_local_subchannel_pool", 1))
    async with start_gateway(grpc_ping_s=least_s) as client:
        await client.voices.CreateVoice(new_voice("ada"))
        async with aio.insecure_channel(client.address, options) as channel:
            call = await _opened(dialogue_pb2_grpc.DialogueServiceStub(channel))
            reading = asyncio.create_task(call.read())
            done, _ = await asyncio.wait([reading], timeout=4 if kept else 60)
            assert (not done) is kept
            if done:
                assert "Too many pings" in await call.details()
            call.cancel()
            await asyncio.wait([reading])


async def test_a_compressed_message_is_refused(start_gateway: StartGateway) -> None:
    """30 kB on the wire could become 32 MB."""
    async with start_gateway() as client:
        with pytest.raises(aio.AioRpcError) as refused:
            await client.voices.CreateVoice(
                new_voice("ada", audio_file=bytes(10_000_000)), compression=grpc.Compression.Gzip
            )
        assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED
        await client.voices.CreateVoice(new_voice("ada"))


@pytest.mark.slow  # it leaves the other caller time on a slow machine
async def test_a_listener_who_stops_reading_a_reply_frees_the_seat(start_gateway: StartGateway, fakes: Fakes) -> None:
    fakes.reasoner.script.reply = ("word ",) * 500
    asked = {"stream": True, "modalities": ["text", "audio"], "audio": {"voice": "ada", "format": "pcm16"}}
    body = json.dumps({**asked, "messages": [{"role": "user", "content": "hello"}]}).encode()
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    async with (
        start_gateway(max_conversations=1, slow_client_s=5.0) as client,
        httpx.AsyncClient(base_url=f"http://{client.http_address}", timeout=60) as http,
        asyncio.timeout(60),
    ):
        await client.voices.CreateVoice(new_voice("ada"))
        loop = asyncio.get_running_loop()
        with _narrow_socket() as listener:
            await loop.sock_connect(listener, _address(client))
            await loop.sock_sendall(listener, head + b"content-length: %d\r\n\r\n" % len(body) + body)
            assert (await loop.sock_recv(listener, 12)).endswith(b" 200")
            statuses: set[int] = set()
            while 200 not in statuses:
                answer = await http.post("/v1/audio/speech", json={"input": "Hello.", "voice": "ada"})
                statuses.add(answer.status_code)
            await fakes.all_freed()
        assert statuses == {200, 429}


@pytest.mark.slow  # it leaves the other caller time on a slow machine
async def test_a_realtime_client_who_stops_reading_frees_the_seat(start_gateway: StartGateway) -> None:
    """The unread answers are not those of a turn: the conversation itself does not wait for them."""
    async with start_gateway(max_conversations=1, slow_client_s=5.0) as client, asyncio.timeout(100):
        await client.voices.CreateVoice(new_voice("ada"))
        url = f"ws://{client.http_address}/v1/realtime"
        narrow = _narrow_socket()
        await asyncio.get_running_loop().sock_connect(narrow, _address(client))
        # `max_queue`: the client reads no further messages from the system than the test takes.
        async with connect(url, sock=narrow, max_queue=1, ping_interval=None, close_timeout=0.1) as listener:
            await listener.recv()
            content = [{"type": "input_text", "text": "a" * 10_000}]
            item = {"id": "long", "type": "message", "role": "user", "content": content}
            await listener.send(json.dumps({"type": "conversation.item.create", "item": item}))
            with contextlib.suppress(ConnectionClosed):
                for _ in range(200):
                    await listener.send('{"type": "conversation.item.retrieve", "item_id": "long"}')
            refusals = 0
            while True:
                try:
                    async with connect(url) as other:
                        assert json.loads(await other.recv())["type"] == "session.created"
                        break
                except InvalidStatus as refused:
                    refusals += refused.response.status_code == 429
                    await asyncio.sleep(0.05)
            assert refusals
