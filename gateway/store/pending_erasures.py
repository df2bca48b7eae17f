"""What replicas still have to forget, in the store: a deletion that a replica has not acknowledged yet.

    chroma:erasures   hash: ID -> JSON: when it was asked for, the service, the names to forget, the replicas left

A record is written before the deletion, so that no crash loses it, and is removed when every replica has acknowledged
it or is gone. The names are fingerprints of voices, ids of sessions and cache scopes. They are encrypted when the store
has keys.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from gateway.store.redis import Store
from services.common.errors import FailedPrecondition

_KEY = "chroma:erasures"
_PAGE = 100

# KEYS: erasures. ARGV: id, record. A store whose memory is full takes a record from a script that has begun to delete,
# whatever it deletes: an erasure has to work then too.
_ADD = """
redis.call('HDEL', KEYS[1], ARGV[1])
return redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
"""

# KEYS: erasures. ARGV: id, and the record, empty when nothing is left. A record that is gone stays gone.
_UPDATE = """
if ARGV[2] == '' then return redis.call('HDEL', KEYS[1], ARGV[1]) end
if redis.call('HDEL', KEYS[1], ARGV[1]) == 1 then redis.call('HSET', KEYS[1], ARGV[1], ARGV[2]) end
return 1
"""


@dataclass(frozen=True)
class PendingErasure:
    """Names that some replicas of a service have to forget."""

    erasure_id: str
    kind: str
    """`voice`, `session` or `scope`."""
    names: tuple[str, ...]
    replicas: tuple[str, ...]
    """Addresses of the replicas that have not acknowledged."""
    asked: float
    """Seconds since the epoch."""


class PendingErasures:
    """The erasures of all tenants. Every method raises Unavailable while the store is away."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def add(self, kind: str, names: Sequence[str], replicas: Sequence[str]) -> PendingErasure:
        """Remember that these replicas have to forget these names."""
        pending = PendingErasure(secrets.token_hex(8), kind, tuple(names), tuple(replicas), time.time())
        await self._store.write(_ADD, [_KEY], [pending.erasure_id, self._sealed(pending)])
        return pending

    async def update(self, pending: PendingErasure) -> None:
        """Write which replicas are left; without any, the erasure is over."""
        value = self._sealed(pending) if pending.replicas else b""
        await self._store.write(_UPDATE, [_KEY], [pending.erasure_id, value])

    async def all(self) -> list[PendingErasure]:
        """The erasures that are not over. One whose key this gateway does not have is left to a gateway that has it."""
        found: dict[str, PendingErasure] = {}
        cursor = 0
        while True:
            cursor, fields = await self._store.ask("HSCAN", _KEY, cursor, "COUNT", _PAGE)
            for name, value in fields.items():
                erasure_id = name.decode()
                with suppress(FailedPrecondition):
                    record = json.loads(self._store.cipher.unseal(_place(erasure_id), value))
                    found[erasure_id] = PendingErasure(
                        erasure_id, record["kind"], tuple(record["names"]), tuple(record["replicas"]), record["asked"]
                    )
            if cursor == 0:
                return list(found.values())

    def _sealed(self, pending: PendingErasure) -> bytes:
        record = {
            "kind": pending.kind,
            "names": pending.names,
            "replicas": pending.replicas,
            "asked": pending.asked,
        }
        return self._store.cipher.seal(_place(pending.erasure_id), json.dumps(record).encode())


def _place(erasure_id: str) -> str:
    return f"{_KEY} {erasure_id}"
