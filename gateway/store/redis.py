"""The store: Redis or Valkey, which keeps sessions and voices.

It may be one server, a cluster, or the primary that Sentinels name (`gateway.store.connection.store_url`). What an
acknowledged write means is said in `gateway.store.connection.server`.

Each command and script has keys of one hash slot, so that a cluster can run it on one server. The part of a key in
braces chooses the slot.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from typing import Any, TypeVar

from redis.crc import key_slot
from redis.exceptions import AskError, MovedError, TryAgainError

from gateway.metrics import STORE_MEMORY_LIMIT, STORE_MEMORY_USED, store_exchange
from gateway.store.cipher import Cipher
from gateway.store.connection.cluster import ClusterServers
from gateway.store.connection.failures import STORE_FAILURES
from gateway.store.connection.server import Command, Durability, Server, Value
from gateway.store.connection.servers import OneServer, SentinelServers, Servers
from gateway.store.connection.store_url import parse_store_url
from gateway.store_settings import StoreSettings, parse_store_keys
from services.common.errors import InvalidArgument, Unavailable

_KINDS: dict[str, type[Servers]] = {"server": OneServer, "cluster": ClusterServers, "sentinel": SentinelServers}
_SCAN_COUNT = 1_000
_REDIRECTED_AGAIN_S = 0.05
_MOST_REDIRECTIONS = 20
"""A second altogether, in which a cluster may move a slot."""

AnswerT = TypeVar("AnswerT")


class Store:
    """The servers of a store. Every failure becomes Unavailable, or ResourceExhausted for a store that is full."""

    def __init__(
        self,
        url: str,
        cipher: Cipher | None = None,
        *,
        require_durable: bool = True,
        replicas: int = 0,
        **tls: Any,
    ) -> None:
        """Raises InvalidArgument for a bad URL. `tls` holds TLS options of redis-py, for a URL with TLS."""
        self.cipher = cipher or Cipher()
        """Encrypts what sessions and voices hold."""
        parsed = parse_store_url(url)
        if tls and not parsed.tls:
            raise InvalidArgument("CHROMA_REDIS_TLS_CA, _CERT and _KEY need a store URL that begins with rediss://")
        if parsed.tls:
            tls = {"ssl_min_version": ssl.TLSVersion.TLSv1_2, **tls}
        self.servers = _KINDS[parsed.kind](parsed, Durability(require_durable, replicas), tls)

    @classmethod
    def of(cls, settings: StoreSettings) -> Store:
        """The store that the settings name. Raises InvalidArgument for settings that do not fit each other."""
        files = {
            "ssl_ca_certs": settings.redis_tls_ca,
            "ssl_certfile": settings.redis_tls_cert,
            "ssl_keyfile": settings.redis_tls_key,
        }
        tls: dict[str, Any] = {name: str(path) for name, path in files.items() if path is not None}
        cipher = Cipher(parse_store_keys(settings.store_keys.get_secret_value()))
        required, replicas = settings.require_durable, settings.store_replicas
        return cls(settings.redis_url, cipher, require_durable=required, replicas=replicas, **tls)

    async def check(self) -> str:
        """Why the store cannot be used now, in a sentence for clients; empty when it can. Learns which servers there
        are, and reads how full they are."""
        try:
            with store_exchange("check"):
                await self.servers.refresh()
                primaries = await self.servers.primaries()
                await _all(server.check() for server in primaries)
                _show_memory(await _all(server.memory() for server in primaries))
        except STORE_FAILURES as error:
            return error.message
        return ""

    async def ask(self, command: str, key: str, *values: Value) -> Any:
        """Run one command, and return its answer as redis-py reads it. Raises Unavailable, ResourceExhausted."""
        (answer,) = await self.ask_all([(command, key, *values)])
        return answer

    async def ask_all(self, commands: Sequence[Command], *, strict: bool = True) -> list[Any]:
        """Run commands with keys of one slot, one after the other, and return their answers. Raises Unavailable,
        ResourceExhausted; with `strict` off a command that the store refuses is a RedisError among the answers."""
        with store_exchange("read"):
            return await self._redirected(
                str(commands[0][1]), lambda server, asking: server.ask_all(commands, strict=strict, asking=asking)
            )

    async def evaluate(self, script: str, keys: Sequence[str], values: Sequence[Value]) -> Any:
        """Run a Lua script whose effects may be late or lost, and return its answer. Raises Unavailable,
        ResourceExhausted."""
        with store_exchange("read"):
            command = ("EVAL", script, len(keys), *keys, *values)
            (answer,) = await self._redirected(
                keys[0], lambda server, asking: server.ask_all([command], strict=True, asking=asking)
            )
            return answer

    async def write(self, script: str, keys: Sequence[str], values: Sequence[Value], *, durable: bool = True) -> Any:
        """Run a Lua script atomically, and return its answer when its effects are in the append-only file, or with
        `durable` off when it has run. All keys have one slot.

        Raises:
            OutcomeUnknown: the script may have run. It does not begin any more once its deadline has passed.
            Unavailable: the script did not run, because the store refused it or is known to hang.
            ResourceExhausted: the script did not run, because the store is full.
        """
        with store_exchange("write"):
            return await self._redirected(
                keys[0] if keys else "",
                lambda server, asking: server.write(script, keys, values, durable=durable, asking=asking),
            )

    def groups(self, keys: Iterable[str], size: int) -> list[list[str]]:
        """Groups of at most `size` of these keys that one script may change."""
        by_slot: dict[int, list[str]] = {}
        for key in keys:
            by_slot.setdefault(key_slot(key.encode()) if self.servers.is_cluster else 0, []).append(key)
        return [group[at : at + size] for group in by_slot.values() for at in range(0, len(group), size)]

    async def scan(self, pattern: str) -> AsyncIterator[str]:
        """Yield the keys of all servers that match a pattern, each once or more often.

        Keys that a cluster moves meanwhile are found too: it then walks again.
        """
        walked: list[Server | None] | None = None
        await self.servers.refresh()
        while walked != (walked := self.servers.slots()):
            for server in await self.servers.primaries():
                cursor, has_more = 0, True
                while has_more:
                    with store_exchange("read"):
                        scan = ("SCAN", cursor, "MATCH", pattern, "COUNT", _SCAN_COUNT)
                        ((cursor, keys),) = await server.ask_all([scan])
                    for key in keys:
                        yield key.decode()
                    has_more = cursor != 0
            await self.servers.refresh()

    async def close(self) -> None:
        """Close all connections."""
        await self.servers.close()

    async def _redirected(self, key: str, action: Callable[[Server, bool], Awaitable[AnswerT]]) -> AnswerT:
        """Do something at the server that has a key, also when a cluster is moving the key."""
        asked: Server | None = None
        for _ in range(_MOST_REDIRECTIONS):
            server = asked or await self.servers.of(key)
            try:
                return await action(server, asked is not None)
            except Unavailable:
                self.servers.doubt()
                raise
            except MovedError as answer:
                await self.servers.redirected(answer, server)
                asked = None
            except AskError as answer:
                asked = await self.servers.named(answer)
            except TryAgainError:
                asked = None
                await asyncio.sleep(_REDIRECTED_AGAIN_S)
        raise Unavailable("the store is busy: it moves data between its servers")


async def _all(asked: Iterable[Awaitable[AnswerT]]) -> list[AnswerT]:
    """The answers of all, or the first failure when all have ended."""
    answers = await asyncio.gather(*asked, return_exceptions=True)
    for answer in answers:
        if isinstance(answer, BaseException):
            raise answer
    return [answer for answer in answers if not isinstance(answer, BaseException)]


def _show_memory(memories: Sequence[tuple[float, float] | None]) -> None:
    """Show how full the fullest server is, of those that tell this user."""
    told = [memory for memory in memories if memory is not None]
    if told:
        used, limit = max(told, key=lambda memory: memory[0] / memory[1] if memory[1] else 0.0)
        STORE_MEMORY_USED.set(used)
        STORE_MEMORY_LIMIT.set(limit)
