"""Voices in the store, each a hash `chroma:voice:{tenant}:{voice_id}`.

`codes` (uint16, little-endian, [T, 8]) and `transcript_ids` (uint32, little-endian) are canonical. `embeddings`
([P, D], with their dtype, shape and the checkpoint that made them) and `fingerprint` can be computed from them again.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass

import numpy as np

from chroma.v1.audio_pb2 import CodeFrames
from chroma.v1.reasoner_pb2 import TokenIds
from chroma.v1.speech_gen_pb2 import EnrollVoiceResponse, VoicePrompt
from chroma.v1.tensor_pb2 import DataType
from gateway.store.redis import Store, Value, store_errors
from services.common.errors import AlreadyExists, InvalidArgument, NotFound

_ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")

# KEYS: voice. ARGV: `request`, its value, field, value, ... Answers 0 when another request made the voice.
_CREATE = """
if redis.call('EXISTS', KEYS[1]) == 1 then
  return redis.call('HGET', KEYS[1], ARGV[1]) == ARGV[2] and 1 or 0
end
redis.call('HSET', KEYS[1], unpack(ARGV))
return 1
"""

# KEYS: voice. ARGV: fingerprint. A voice deleted meanwhile stays deleted.
_ADOPT = """
if redis.call('EXISTS', KEYS[1]) == 1 then redis.call('HSET', KEYS[1], 'fingerprint', ARGV[1]) end
return 1
"""


@dataclass(frozen=True)
class Voice:
    """What people see of a voice."""

    voice_id: str
    display_name: str
    transcript: str
    consent: str
    duration_s: float
    created: float
    """Seconds since the epoch."""


@dataclass(frozen=True)
class SpokenVoice:
    """What speech_gen needs of a voice: the fingerprint it may hold, and the prompt if it does not."""

    voice_id: str
    fingerprint: str
    prompt: VoicePrompt


class Voices:
    """All voices. Every method raises Unavailable while the store is away."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def create(self, tenant: str, voice: Voice, enrolled: EnrollVoiceResponse) -> None:
        """Keep a voice; it survives the loss of any process from then on. Raises AlreadyExists."""
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
            "fingerprint": enrolled.fingerprint,
            "embeddings": enrolled.embeddings.data,
            "embeddings_dtype": DataType.Name(enrolled.embeddings.dtype),
            "embeddings_shape": ",".join(map(str, enrolled.embeddings.shape)),
            "checkpoint": enrolled.checkpoint_fingerprint,
        }
        values = [value for field in fields.items() for value in field]
        if not await self._store.write(_CREATE, [_key(tenant, voice.voice_id)], values):
            raise AlreadyExists(f"the voice {voice.voice_id!r} exists: delete it first, or choose another id")

    async def exists(self, tenant: str, voice_id: str) -> bool:
        """Whether the voice is kept."""
        return bool(await self._store.ask(self._store.redis.exists(_key(tenant, voice_id))))

    async def get(self, tenant: str, voice_id: str) -> Voice:
        """The voice. Raises NotFound."""
        names = ["name", "transcript", "consent", "duration_s", "created"]
        values = await self._store.ask(self._store.redis.hmget(_key(tenant, voice_id), names))
        if values[0] is None:
            raise NotFound(f"no voice {voice_id!r}")
        name, transcript, consent, duration_s, created = (value.decode() for value in values)
        return Voice(voice_id, name, transcript, consent, float(duration_s), float(created))

    async def spoken(self, tenant: str, voice_id: str) -> SpokenVoice:
        """What it takes to speak with the voice. Raises NotFound."""
        names = ["codes", "transcript_ids", "fingerprint"]
        codes, ids, fingerprint = await self._store.ask(self._store.redis.hmget(_key(tenant, voice_id), names))
        if codes is None:
            raise NotFound(f"no voice {voice_id!r}")
        prompt = VoicePrompt(
            frames=CodeFrames(codes=np.frombuffer(codes, dtype="<u2").tolist()),
            transcript=TokenIds(ids=np.frombuffer(ids, dtype="<u4").tolist()),
        )
        return SpokenVoice(voice_id, fingerprint.decode(), prompt)

    async def adopt_fingerprint(self, tenant: str, voice_id: str, fingerprint: str) -> None:
        """Remember the fingerprint by which another checkpoint knows the voice."""
        await self._store.write(_ADOPT, [_key(tenant, voice_id)], [fingerprint])

    async def page(self, tenant: str, *, after: str, size: int) -> tuple[list[Voice], bool]:
        """Up to `size` voices with ids above `after`, in order, and whether more follow."""
        prefix = _key(tenant, "")
        async with store_errors():
            ids = {
                key.decode().removeprefix(prefix)
                async for key in self._store.redis.scan_iter(match=f"{prefix}*", count=1000)
            }
        following = sorted(voice_id for voice_id in ids if voice_id > after)
        voices = []
        for voice_id in following[:size]:
            try:
                voices.append(await self.get(tenant, voice_id))
            except NotFound:
                continue  # deleted meanwhile
        return voices, len(following) > size

    async def delete(self, tenant: str, voice_id: str) -> None:
        """Forget the voice for good. Raises NotFound."""
        if not await self._store.ask(self._store.redis.delete(_key(tenant, voice_id))):
            raise NotFound(f"no voice {voice_id!r}")


def check_voice_id(voice_id: str) -> None:
    """Raises InvalidArgument unless `voice_id` can be the id of a voice."""
    if not _ID.fullmatch(voice_id):
        raise InvalidArgument(
            f"expected a voice id of 1 to 64 of a-z, 0-9, '-' and '_', starting with a letter or digit, "
            f"got {voice_id[:80]!r}"
        )


def new_voice_id() -> str:
    """An id for a voice that was given none."""
    return f"voice-{secrets.token_hex(6)}"


def _key(tenant: str, voice_id: str) -> str:
    return f"chroma:voice:{tenant}:{voice_id}"
