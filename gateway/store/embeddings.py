"""Embeddings of cloned voices in the store: a cache of what each checkpoint computed from a voice.

    chroma:voice_embeddings:{TENANT}   hash: VOICE:CHECKPOINT -> a serialised `chroma.v1.Tensor`
    chroma:voice_uses:{TENANT}         sorted set: VOICE:CHECKPOINT by the time of its last use

TENANT, VOICE and CHECKPOINT stand for the tenant, the voice's id and the checkpoint's fingerprint. The braces are part
of the key: a cluster keeps all keys with the same text in braces on one server. An embedding is the voice prompt
as the backbone reads it, [P, D] in the compute dtype of the speech generator that made it. A tenant's embeddings are
bounded in number and bytes; the least recently used one leaves first. An embedding never outlives its voice.
It is encrypted when the store has keys (`gateway.store.cipher`).
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from chroma.v1.tensor_pb2 import Tensor
from gateway.store.connection.failures import STORE_FAILURES
from gateway.store.redis import Store
from services.common.errors import FailedPrecondition

_FIND_TIMEOUT_S = 0.25
"""A speech generator computes an embedding in a few milliseconds: a turn does not wait for a slow store."""

# KEYS: voice, embeddings, uses. ARGV: field, embedding, time, most embeddings, most bytes of them.
# A voice that was deleted meanwhile gets no embedding.
_KEEP = """
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
redis.call('ZADD', KEYS[3], ARGV[3], ARGV[1])
local bytes = 0
for place, field in ipairs(redis.call('ZREVRANGE', KEYS[3], 0, -1)) do
  bytes = bytes + redis.call('HSTRLEN', KEYS[2], field)
  if place > tonumber(ARGV[4]) or bytes > tonumber(ARGV[5]) then
    redis.call('HDEL', KEYS[2], field)
    redis.call('ZREM', KEYS[3], field)
  end
end
return 1
"""


@dataclass(frozen=True)
class EmbeddingLimits:
    """The most embeddings that a tenant's voices may have in the store, and their most bytes."""

    count: int
    size_bytes: int


class StoredEmbeddings:
    """The embeddings of one voice, one for each checkpoint. They are a cache: a store that is away holds none."""

    def __init__(self, store: Store, limits: EmbeddingLimits, *, tenant: str, voice_id: str, voice_key: str) -> None:
        self._store = store
        self._limits = limits
        self._voice_id = voice_id
        self._voice_key = voice_key
        self._key, self._uses_key = embedding_keys(tenant)

    async def find(self, checkpoint: str) -> Tensor | None:
        """The embedding that this checkpoint made, [P, D]; None when the store holds none or is away."""
        field = f"{self._voice_id}:{checkpoint}"
        try:
            async with asyncio.timeout(_FIND_TIMEOUT_S):
                used = ("ZADD", self._uses_key, "XX", time.time(), field)
                data, _ = await self._store.ask_all([("HGET", self._key, field), used])
            return None if data is None else Tensor.FromString(self._store.cipher.unseal(self._place(field), data))
        except (TimeoutError, *STORE_FAILURES, DecodeError, FailedPrecondition):
            return None

    async def keep(self, checkpoint: str, embedding: Tensor) -> None:
        """Store the embedding that this checkpoint computed. The least recently used embeddings make room for it."""
        field = f"{self._voice_id}:{checkpoint}"
        data = self._store.cipher.seal(self._place(field), embedding.SerializeToString())
        if not checkpoint or len(data) > self._limits.size_bytes:
            return
        keys = [self._voice_key, self._key, self._uses_key]
        limits = self._limits
        values = [field, data, time.time(), limits.count, limits.size_bytes]
        try:
            await self._store.write(_KEEP, keys, values)
        except STORE_FAILURES:
            return  # the next replica computes it again

    def _place(self, field: str) -> str:
        return f"{self._key} {field}"


def embedding_keys(tenant: str) -> tuple[str, str]:
    """The keys of a tenant's embeddings and of the times of their last use."""
    return f"chroma:voice_embeddings:{{{tenant}}}", f"chroma:voice_uses:{{{tenant}}}"
