"""A gateway of two tenants of which one owns something of each kind, and ways to ask for it with any key."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import asdict, astuple, dataclass, fields
from pathlib import Path
from typing import Any

import httpx
from grpc import aio
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus
from websockets.http11 import Response

from chroma.v1 import dialogue_pb2 as pb
from tests.support.api_keys import key_entry, write_keys
from tests.support.gateway_client import Client, audio_file, new_voice, speech

ALL = ["talk", "voices", "admin"]
KEYS = {
    "sk-owner": {"tenant": "owner", "scopes": ALL},
    "sk-other": {"tenant": "other", "scopes": ALL},
    **{f"sk-{scope}": {"tenant": "owner", "scopes": [scope]} for scope in ALL},
}


@dataclass(frozen=True)
class Ids:
    """The ids of what a tenant has."""

    voice: str
    session: str
    reply: str
    consent: str
    recorded: str
    response: str
    item: str


MISSING = Ids(
    "nobody",
    "s" * 32,
    "audio_" + "0" * 24,
    "consent-" + "0" * 32,
    "consent-" + "1" * 32,
    "resp_" + "0" * 48,
    "msg_" + "0" * 48,
)
"""Ids of nothing, as long as those of something."""


@dataclass
class Owned:
    """A gateway, and what the tenant `owner` has in it."""

    client: Client
    http: httpx.AsyncClient
    ids: Ids


@asynccontextmanager
async def tenant_with_belongings(
    start_gateway: Callable[..., AbstractAsyncContextManager[Client]], folder: Path
) -> AsyncIterator[Owned]:
    """A gateway that knows `KEYS`, in which the tenant `owner` has one thing of each kind."""
    keys = write_keys(folder / "keys.json", *(key_entry(key, id=key[3:], **rest) for key, rest in KEYS.items()))
    async with (
        start_gateway(api_keys_file=keys, transcribe=True) as client,
        httpx.AsyncClient(base_url=f"http://{client.http_address}", timeout=60) as http,
    ):
        mine = bearer("sk-owner")
        voice = (await client.voices.CreateVoice(new_voice("grace"), metadata=metadata_of("sk-owner"))).voice
        session = await client.dialogue.CreateSession(
            pb.CreateSessionRequest(config=pb.SessionConfig(voice_id="grace")), metadata=metadata_of("sk-owner")
        )
        spoken = {"messages": [{"role": "user", "content": "hi"}], "modalities": ["audio"], "audio": {"voice": "grace"}}
        reply = (await http.post("/v1/chat/completions", json=spoken, headers=mine)).json()
        audio_id = reply["choices"][0]["message"]["audio"]["id"]
        statement = {"recording": ("consent.wav", audio_file(speech(3, rate_hz=24_000)))}
        said = {"name": "Ada", "language": "en-US"}
        recorded = await http.post("/v1/audio/voice_consents", data=said, files=statement, headers=mine)
        response = (await http.post("/v1/responses", json={"input": "hi"}, headers=mine)).json()
        ids = Ids(
            "grace",
            session.session.session_id,
            audio_id,
            voice.consent_id,
            recorded.json()["id"],
            response["id"],
            response["output"][0]["id"],
        )
        yield Owned(client, http, ids)


def bearer(key: str) -> dict[str, str]:
    """The header with this key. Empty: none."""
    return {"authorization": f"Bearer {key}"} if key else {}


def metadata_of(key: str) -> tuple[tuple[str, str], ...]:
    """The same for gRPC."""
    return tuple(bearer(key).items())


async def ask(owned: Owned, route: str, key: str, ids: Ids, **arguments: Any) -> httpx.Response:
    """Send one request to a route."""
    method, path = route.split()
    url = path.format(**asdict(ids), model="chroma-1.0", call="rtc_0")
    return await owned.http.request(method, url, headers=bearer(key), **arguments)


async def upgraded(owned: Owned, key: str) -> Response:
    """Open a WebSocket. Returns the response to its upgrade."""
    try:
        async with connect(f"ws://{owned.client.http_address}/v1/realtime", additional_headers=bearer(key)) as socket:
            response = socket.response
    except InvalidStatus as refused:
        response = refused.response
    assert response is not None
    return response


async def status(call: Awaitable[Any]) -> tuple[str, str]:
    """The status and the message of a call. A call that runs has none and may go on."""
    try:
        await call
    except aio.AioRpcError as error:
        return error.code().name, error.details() or ""
    return "OK", ""


def without(ids: Ids, text: str) -> str:
    """A text without these ids."""
    for value, field in zip(astuple(ids), fields(ids), strict=True):
        text = text.replace(value, f"<{field.name}>")
    return text
