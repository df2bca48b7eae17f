"""The store of the manifests over TLS: a real Valkey with the configuration of the component `tls`, and a gateway with
its settings."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import trustme
from redis.asyncio import Redis
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError

from chroma.v1 import dialogue_pb2 as pb
from gateway.settings import GatewaySettings
from tests.integration.gateway.conftest import StartGateway
from tests.support.certificates import write_pair
from tests.support.gateway_client import new_voice
from tests.support.hurt_store import free_port
from tests.support.manifest_valkey import PASSWORD, ManifestValkey
from tests.support.manifests import base_with, environment, processes
from tests.support.small_disks import refusal

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1"),  # the tests try what is refused
    pytest.mark.skipif(bool(why := refusal()), reason=f"no namespaces for a container: {why}"),
]


class Secured:
    """The store, and what a gateway of the manifests knows of it."""

    def __init__(self, folder: Path) -> None:
        authority = trustme.CA()
        self.port = free_port()
        self.store = ManifestValkey(folder / "valkey", self.port, authority)
        self.files = folder / "gateway-tls"
        self.files.mkdir()
        write_pair(self.files, authority, "gateway")
        manifests = base_with(("tls",))
        (container,) = [one for _, one, kind in processes(manifests) if kind is GatewaySettings]
        given = environment(container, manifests)
        names = ("redis_tls_cert", "redis_tls_key", "redis_tls_ca")
        self.settings: dict[str, Any] = {
            name: given[f"CHROMA_{name.upper()}"].replace("/tls/", f"{self.files}/") for name in names
        }
        self.settings["redis_url"] = f"rediss://chroma-voice:{PASSWORD}@127.0.0.1:{self.port}/0"

    async def started(self) -> None:
        """Start the store and wait until its readiness probe passes."""
        self.store.start()
        async with asyncio.timeout(30):
            while not await asyncio.to_thread(self.store.is_ready):  # noqa: ASYNC110  # a process of its own
                await asyncio.sleep(0.05)

    def client(self, scheme: str = "rediss", user: str = "chroma-voice", *, certified: bool = True) -> Redis:
        """A client of the store."""
        tls: dict[str, Any] = {}
        if scheme == "rediss":
            tls = {"ssl_ca_certs": self.settings["redis_tls_ca"]}
            if certified:
                tls |= {"ssl_certfile": self.settings["redis_tls_cert"], "ssl_keyfile": self.settings["redis_tls_key"]}
        return Redis.from_url(f"{scheme}://{user}:{PASSWORD}@127.0.0.1:{self.port}/0", **tls)

    def handshake(self, newest: ssl.TLSVersion) -> tuple[str | None, int]:
        """Connect with this version of TLS at most. Returns the version spoken and the certificate's serial number."""
        context = ssl.create_default_context(cafile=self.settings["redis_tls_ca"])
        context.load_cert_chain(self.settings["redis_tls_cert"], self.settings["redis_tls_key"])
        context.set_ciphers("ALL:@SECLEVEL=0")  # our side would speak TLS 1.1
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = newest
        with (
            socket.create_connection(("127.0.0.1", self.port), timeout=60) as plain,
            context.wrap_socket(plain, server_hostname="valkey") as secured,
        ):
            shown = secured.getpeercert() or {}
            return secured.version(), int(str(shown["serialNumber"]), 16)


@pytest.fixture
async def secured(tmp_path: Path) -> AsyncIterator[Secured]:
    """The store, which serves."""
    secured = Secured(tmp_path)
    try:
        await secured.started()
        yield secured
    finally:
        secured.store.kill()


async def answered(call: Any) -> Any:
    """The answer of a call that is made again until the store is back."""
    async with asyncio.timeout(30):
        while True:
            with suppress(Exception):
                return await call()
            await asyncio.sleep(0.1)


async def test_voices_and_sessions_survive_kill_9_and_a_renewal_of_the_certificate(
    secured: Secured, start_gateway: StartGateway
) -> None:
    async with start_gateway(**secured.settings) as client:
        await client.voices.CreateVoice(new_voice("ada"))
        async with client.converse() as talk:
            assert (await talk.ask("first")).outcome == pb.TURN_OUTCOME_COMPLETED
        session_id = talk.session.session_id

        async def questions() -> list[str]:
            answer = await client.dialogue.GetSession(pb.GetSessionRequest(session_id=session_id))
            return [entry.text for entry in answer.session.entries if entry.speaker == pb.SPEAKER_USER]

        secured.store.kill()
        await secured.started()
        assert (await answered(lambda: client.voices.GetVoice(pb.GetVoiceRequest(voice_id="ada")))).voice
        assert await questions() == ["first"]

        _, before = await asyncio.to_thread(secured.handshake, ssl.TLSVersion.TLSv1_3)
        secured.store.renew()
        assert await asyncio.to_thread(secured.store.wait) == 0, "the container ends, as after SIGTERM"
        await secured.started()  # as the kubelet does
        _, after = await asyncio.to_thread(secured.handshake, ssl.TLSVersion.TLSv1_3)
        assert after != before
        assert await answered(questions) == ["first"]
        async with client.converse(session_id=session_id) as talk:
            assert (await talk.ask("second")).outcome == pb.TURN_OUTCOME_COMPLETED
        assert await questions() == ["first", "second"]


async def test_plain_text_old_tls_and_callers_without_a_certificate_are_refused(secured: Secured) -> None:
    with socket.create_connection(("127.0.0.1", secured.port), timeout=60) as plain:
        plain.sendall(b"PING\r\n")
        with suppress(ConnectionResetError):
            assert b"PONG" not in plain.recv(100)
    for client in (secured.client("redis"), secured.client(certified=False)):
        with pytest.raises((RedisError, OSError)):
            await client.execute_command("PING")
        await client.aclose()
    for newest in (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1):
        with pytest.raises(ssl.SSLError, match="alert protocol version"):
            await asyncio.to_thread(secured.handshake, newest)
    for newest, version in ((ssl.TLSVersion.TLSv1_2, "TLSv1.2"), (ssl.TLSVersion.TLSv1_3, "TLSv1.3")):
        assert (await asyncio.to_thread(secured.handshake, newest))[0] == version


async def test_the_one_user_may_do_what_the_gateway_does(secured: Secured) -> None:
    default = secured.client(user="default")
    with pytest.raises(AuthenticationError):
        await default.execute_command("PING")
    client = secured.client()
    assert await client.set("chroma:key", "value")
    written: Any = await client.execute_command("WAITAOF", 1, 0, 1_000)
    assert written[0] == 1
    for command in (("FLUSHALL",), ("CONFIG", "GET", "*"), ("KEYS", "*"), ("GET", "other"), ("SUBSCRIBE", "chroma:x")):
        with pytest.raises(NoPermissionError):
            await client.execute_command(*command)
    for one in (default, client):
        await one.aclose()
