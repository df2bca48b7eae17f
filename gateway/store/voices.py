"""Voices in the store.

    chroma:voice:{TENANT}:VOICE   hash: codes, transcript_ids, name, transcript, consent, duration_s, created
    chroma:voices:{TENANT}        sorted set: the ids of the tenant's voices, all of score 0, so in order of ids
    chroma:voices_indexed         set once the voices of earlier versions are in those sets

`codes` (uint16, little-endian, [T, 8]) and `transcript_ids` (uint32, little-endian) are the voice; what a checkpoint
computes from them is in `gateway.store.embeddings`. The braces are part of the keys: Redis Cluster keeps all keys of
one tenant on one node, so that a script may change them together.

Earlier versions wrote `chroma:voice:TENANT:VOICE` without braces and without an index. Such a voice stays where it is
until it is deleted: it is read under its old name, and indexed by the first listing after the upgrade. The old name
cannot be mixed up with a new one, because a tenant's name has no braces.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from chroma.v1.audio_pb2 import CodeFrames
from chroma.v1.reasoner_pb2 import TokenIds
from chroma.v1.speech_gen_pb2 import EnrollVoiceResponse, VoicePrompt
from gateway.store.embeddings import EmbeddingLimits, StoredEmbeddings, embedding_keys
from gateway.store.redis import Store, Value
from services.common.errors import AlreadyExists, InvalidArgument, NotFound
from services.common.wire.voice_fingerprint import voice_fingerprint

DEFAULT_PAGE_SIZE = 100
MAX_PAGE_SIZE = 1_000

_ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_INDEXED = "chroma:voices_indexed"

# KEYS: voice, index. ARGV: voice id, `request`, its value, field, value, ...
# Answers 0 when another request made the voice.
_CREATE = """
if redis.call('EXISTS', KEYS[1]) == 1 then
  return redis.call('HGET', KEYS[1], ARGV[2]) == ARGV[3] and 1 or 0
end
redis.call('HSET', KEYS[1], unpack(ARGV, 2))
redis.call('ZADD', KEYS[2], 0, ARGV[1])
return 1
"""

# KEYS: voice, index, embeddings, times of their use. ARGV: voice id. Answers whether the voice existed.
_DELETE = """
local found = redis.call('DEL', KEYS[1])
redis.call('ZREM', KEYS[2], ARGV[1])
local prefix = ARGV[1] .. ':'
for _, field in ipairs(redis.call('HKEYS', KEYS[3])) do
  if string.sub(field, 1, #prefix) == prefix then
    redis.call('HDEL', KEYS[3], field)
    redis.call('ZREM', KEYS[4], field)
  end
end
return found
"""

# KEYS: voice, index. ARGV: voice id. Takes an id out of the index, unless the voice was made meanwhile.
_UNLIST = """
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
return redis.call('ZREM', KEYS[2], ARGV[1])
"""


@dataclass(frozen=True)
class Voice:
    """The fields of a voice that clients see."""

    voice_id: str
    display_name: str
    transcript: str
    consent: str
    duration_s: float
    created: float
    """Seconds since the epoch."""


@dataclass(frozen=True)
class SpokenVoice:
    """A voice as a turn needs it: the prompt and the stored embeddings."""

    voice_id: str
    prompt: VoicePrompt
    embeddings: StoredEmbeddings | None = None
    """None: a voice that is not in the store."""

    def fingerprint(self, checkpoint: str) -> str:
        """The name under which a replica with this checkpoint may hold the voice."""
        return voice_fingerprint(self.prompt.frames.codes, self.prompt.transcript.ids, checkpoint)


class Voices:
    """All voices. Every method raises Unavailable while the store is away."""

    def __init__(self, store: Store, limits: EmbeddingLimits) -> None:
        self._store = store
        self._limits = limits
        self._indexed = False
        self._indexing = asyncio.Lock()

    async def create(self, tenant: str, voice: Voice, enrolled: EnrollVoiceResponse) -> None:
        """Store a voice. When this returns, the voice survives the loss of any process. Raises AlreadyExists."""
        prompt = enrolled.prompt
        fields: dict[str, Value] = {
            "request": secrets.token_hex(8),
            "name": voice.display_name,
            "transcript": voice.transcript,
            "consent": voice.consent,
            "created": voice.created,
            "duration_s": voice.duration_s,
            "codes": np.array(prompt.frames.codes, dtype="<u2").tobytes(),
            "transcript_ids": np.array(prompt.transcript.ids, dtype="<u4").tobytes(),
        }
        key = _key(tenant, voice.voice_id)
        values = [voice.voice_id, *(value for field in fields.items() for value in field)]
        taken = await self._store.ask(self._store.redis.exists(_old_key(tenant, voice.voice_id)))
        if taken or not await self._store.write(_CREATE, [key, _index_key(tenant)], values):
            raise AlreadyExists(f"the voice {voice.voice_id!r} exists: delete it first, or choose another id")
        await self._embeddings(tenant, voice.voice_id, key).keep(enrolled.checkpoint_fingerprint, enrolled.embeddings)

    async def exists(self, tenant: str, voice_id: str) -> bool:
        """Whether the voice is kept."""
        for key in (_key(tenant, voice_id), _old_key(tenant, voice_id)):
            if await self._store.ask(self._store.redis.exists(key)):
                return True
        return False

    async def get(self, tenant: str, voice_id: str) -> Voice:
        """The voice. Raises NotFound."""
        names = ["name", "transcript", "consent", "duration_s", "created"]
        _, values = await self._read(tenant, voice_id, names)
        name, transcript, consent, duration_s, created = (value.decode() for value in values)
        return Voice(voice_id, name, transcript, consent, float(duration_s), float(created))

    async def spoken(self, tenant: str, voice_id: str) -> SpokenVoice:
        """The prompt and the stored embeddings of the voice, for a turn. Raises NotFound."""
        key, (codes, ids) = await self._read(tenant, voice_id, ["codes", "transcript_ids"])
        prompt = VoicePrompt(
            frames=CodeFrames(codes=np.frombuffer(codes, dtype="<u2").tolist()),
            transcript=TokenIds(ids=np.frombuffer(ids, dtype="<u4").tolist()),
        )
        return SpokenVoice(voice_id, prompt, self._embeddings(tenant, voice_id, key))

    async def page(self, tenant: str, *, after: str, size: int) -> tuple[list[Voice], bool]:
        """Up to `size` voices with ids above `after`, in order, and whether more follow."""
        await self._index_old_voices()
        voices: list[Voice] = []
        while len(voices) <= size:
            wanted = size + 1 - len(voices)
            ids = await self._store.ask(
                self._store.redis.zrangebylex(_index_key(tenant), f"({after}", "+", start=0, num=wanted)
            )
            for voice_id in (name.decode() for name in ids):
                after = voice_id
                try:
                    voices.append(await self.get(tenant, voice_id))
                except NotFound:  # deleted meanwhile, or by a gateway of an earlier version
                    await self._store.write(_UNLIST, [_key(tenant, voice_id), _index_key(tenant)], [voice_id])
            if len(ids) < wanted:
                break
        return voices[:size], len(voices) > size

    async def delete(self, tenant: str, voice_id: str) -> None:
        """Delete the voice and its embeddings for good. Raises NotFound."""
        others = [_index_key(tenant), *embedding_keys(tenant)]
        found = await self._store.write(_DELETE, [_key(tenant, voice_id), *others], [voice_id])
        if not found and not await self._store.write(_DELETE, [_old_key(tenant, voice_id), *others], [voice_id]):
            raise NotFound(f"no voice {voice_id!r}")

    async def _read(self, tenant: str, voice_id: str, names: Sequence[str]) -> tuple[str, list[bytes]]:
        """The key of a voice and the values of these fields, all of which every voice has. Raises NotFound."""
        for key in (_key(tenant, voice_id), _old_key(tenant, voice_id)):
            values = await self._store.ask(self._store.redis.hmget(key, list(names)))
            if values[0] is not None:
                if key == _old_key(tenant, voice_id):  # perhaps made by an earlier gateway after the indexing
                    await self._store.ask(self._store.redis.zadd(_index_key(tenant), {voice_id: 0}))
                return key, values
        raise NotFound(f"no voice {voice_id!r}")

    def _embeddings(self, tenant: str, voice_id: str, key: str) -> StoredEmbeddings:
        return StoredEmbeddings(self._store, self._limits, tenant=tenant, voice_id=voice_id, voice_key=key)

    async def _index_old_voices(self) -> None:
        """Index the voices of earlier versions, once for a store: a walk over all its keys.

        Deletes the embeddings that those versions wrote beside each voice: nothing reads them.
        """
        async with self._indexing:
            if self._indexed:
                return
            redis, ask = self._store.redis, self._store.ask
            cursor = 0
            while not await ask(redis.exists(_INDEXED)):
                cursor, keys = await ask(redis.scan(cursor, match=f"{_OLD_PREFIX}*", count=1_000))
                for tenant, voice_id in filter(None, map(_named_by_old_key, keys)):
                    await ask(redis.zadd(_index_key(tenant), {voice_id: 0}))
                    old = ["embeddings", "embeddings_dtype", "embeddings_shape"]
                    await ask(redis.hdel(_old_key(tenant, voice_id), *old))
                if cursor == 0:
                    await ask(redis.set(_INDEXED, 1))
            self._indexed = True


def check_voice_id(voice_id: str) -> None:
    """Raises InvalidArgument unless `voice_id` can be the id of a voice."""
    if not _ID.fullmatch(voice_id):
        raise InvalidArgument(
            f"expected a voice id of 1 to 64 of a-z, 0-9, '-' and '_', starting with a letter or digit, "
            f"got {voice_id[:80]!r}"
        )


def new_voice_id() -> str:
    """A random id, for a voice that was given none."""
    return f"voice-{secrets.token_hex(6)}"


def _key(tenant: str, voice_id: str) -> str:
    return f"chroma:voice:{{{tenant}}}:{voice_id}"


def _index_key(tenant: str) -> str:
    return f"chroma:voices:{{{tenant}}}"


_OLD_PREFIX = "chroma:voice:"


def _old_key(tenant: str, voice_id: str) -> str:
    return f"{_OLD_PREFIX}{tenant}:{voice_id}"


def _named_by_old_key(key: bytes) -> tuple[str, str] | None:
    """Tenant and voice id of a key that an earlier version wrote."""
    tenant, _, voice_id = key.decode().removeprefix(_OLD_PREFIX).partition(":")
    return None if tenant.startswith("{") else (tenant, voice_id)
