"""Voices in the store.

    chroma:voice:{TENANT}:VOICE         hash: codes, transcript_ids, name, transcript, consent, consent_id, duration_s,
                                        created, request
    chroma:voices:{TENANT}              sorted set: the ids of the tenant's voices, all of score 0, so in order of ids
    chroma:voice_request:{TENANT}:KEY   hash: digest, voice; the request that an idempotency key stands for, for a day
    chroma:voices_indexed               set once the voices of earlier versions are in those sets

`codes` (uint16, little-endian, [T, 8]) and `transcript_ids` (uint32, little-endian) are the voice; what a checkpoint
computes from them is in `gateway.store.embeddings`. The voice's consent is in `gateway.store.consents` too, and stays
there when the voice is deleted. Codes, tokens and texts are encrypted when the store has keys (`gateway.store.cipher`).
The braces are part of the keys: a cluster keeps a tenant's keys of this kind on one server, so that a script may
change them together.

Earlier versions wrote `chroma:voice:TENANT:VOICE` without braces and without an index. Such a voice stays where it is
until it is deleted: it is read under its old name, and indexed before the first gateway serves after the upgrade. The
old name cannot be mixed up with a new one, because a tenant's name has no braces.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from chroma.v1.audio_pb2 import CodeFrames
from chroma.v1.reasoner_pb2 import TokenIds
from chroma.v1.speech_gen_pb2 import EnrollVoiceResponse, VoicePrompt
from gateway.store import voice_layout as layout
from gateway.store.connection.failures import STORE_FAILURES
from gateway.store.connection.server import Value
from gateway.store.consents import Consent, Consents, consent_key, consent_keys
from gateway.store.embeddings import EmbeddingLimits, StoredEmbeddings, embedding_keys
from gateway.store.redis import Store
from services.common.errors import AlreadyExists, InvalidArgument, NotFound
from services.common.wire.voice_fingerprint import voice_fingerprint

DEFAULT_PAGE_SIZE = 100
MAX_PAGE_SIZE = 1_000

_ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_REQUEST_TTL_S = 86_400
"""How long an idempotency key stands for its request."""


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
    consent_id: str = ""
    """The record of the consent. Empty: the voice was enrolled by a version that kept none."""


class OtherRequest(InvalidArgument):
    """The idempotency key of a request stands for another request."""


@dataclass(frozen=True)
class RequestKey:
    """An idempotency key of a caller, and the digest of the request that the key stands for."""

    key: str
    digest: str


@dataclass(frozen=True)
class StoredVoice:
    """A voice as the store has it now: enough to delete this voice and no later one of the same id."""

    voice_id: str
    key: str
    request: bytes
    consent_id: str
    prompt: VoicePrompt
    checkpoints: tuple[str, ...]
    """The checkpoints whose embeddings of the voice are stored."""


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
        self.store = store
        self.consents = Consents(store)
        self._limits = limits
        self._indexed = False
        self._indexing = asyncio.Lock()

    async def create(
        self,
        tenant: str,
        voice: Voice,
        enrolled: EnrollVoiceResponse,
        consent: Consent,
        request_key: RequestKey | None = None,
    ) -> str:
        """Store a voice with its consent. When this returns, both survive the loss of any process.

        Returns the voice's id: that of the voice of an earlier call with this `request_key`, if there was one. Raises
        AlreadyExists, InvalidArgument (the key stands for another request), FailedPrecondition (a
        consent for the recording is revoked), ResourceExhausted (too many consents).
        """
        prompt, cipher, key = enrolled.prompt, self.store.cipher, layout.voice_key(tenant, voice.voice_id)
        contents = {
            "name": voice.display_name.encode(),
            "transcript": voice.transcript.encode(),
            "consent": voice.consent.encode(),
            "codes": np.array(prompt.frames.codes, dtype="<u2").tobytes(),
            "transcript_ids": np.array(prompt.transcript.ids, dtype="<u4").tobytes(),
        }
        fields: dict[str, Value] = {
            "request": secrets.token_hex(8),
            "created": voice.created,
            "duration_s": voice.duration_s,
            "consent_id": consent.consent_id,
            **{name: cipher.seal(f"{key} {name}", value) for name, value in contents.items()},
        }
        taken = await self.store.ask("EXISTS", layout.old_key(tenant, voice.voice_id))
        if taken:
            raise _taken(voice.voice_id)
        keys = [key, layout.index_key(tenant), *consent_keys(consent)]
        values: list[Value] = [
            voice.voice_id,
            *self.consents.values(consent),
            consent.recording_mark,
            request_key.digest if request_key else "",
            _REQUEST_TTL_S,
            *(value for field in fields.items() for value in field),
        ]
        request_field = layout.request_key(tenant, request_key.key) if request_key else layout.index_key(tenant)
        answer, found = await self.consents.write(layout.CREATE, [*keys, request_field], values, consent)
        if answer == 0:
            raise _taken(voice.voice_id)
        if answer == -3:
            raise _other_request()
        if found.decode() == voice.voice_id:
            rows = enrolled.embeddings
            await self._embeddings(tenant, voice.voice_id, key).keep(enrolled.checkpoint_fingerprint, rows)
        return found.decode()

    async def requested(self, tenant: str, request_key: RequestKey) -> str:
        """The id of the voice that an earlier call with this key made; empty if there was no such call.

        Raises InvalidArgument when the key stands for another request.
        """
        names = ["digest", "voice"]
        key = layout.request_key(tenant, request_key.key)
        digest, voice_id = await self.store.ask("HMGET", key, *names)
        if digest is None:
            return ""
        if digest.decode() != request_key.digest:
            raise _other_request()
        return voice_id.decode()

    async def exists(self, tenant: str, voice_id: str) -> bool:
        """Whether the voice is kept."""
        for key in (layout.voice_key(tenant, voice_id), layout.old_key(tenant, voice_id)):
            if await self.store.ask("EXISTS", key):
                return True
        return False

    async def get(self, tenant: str, voice_id: str) -> Voice:
        """The voice. Raises NotFound."""
        names = ["name", "transcript", "consent", "duration_s", "created", "consent_id"]
        key, (*texts, duration_s, created, consent_id) = await self._read(tenant, voice_id, names)
        name, transcript, consent = (
            self._unseal(key, field, text).decode() for field, text in zip(names[:3], texts, strict=True)
        )
        consent_id = (consent_id or b"").decode()
        return Voice(voice_id, name, transcript, consent, float(duration_s), float(created), consent_id)

    async def spoken(self, tenant: str, voice_id: str) -> SpokenVoice:
        """The prompt and the stored embeddings of the voice, for a turn. Raises NotFound."""
        key, (codes, ids) = await self._read(tenant, voice_id, ["codes", "transcript_ids"])
        return SpokenVoice(voice_id, self._prompt(key, codes, ids), self._embeddings(tenant, voice_id, key))

    async def stored(self, tenant: str, voice_id: str) -> StoredVoice:
        """The voice for its deletion. Raises NotFound."""
        names = ["codes", "transcript_ids", "request", "consent_id"]
        key, (codes, ids, request, consent_id) = await self._read(tenant, voice_id, names)
        fields = await self.store.ask("HKEYS", embedding_keys(tenant)[0])
        made_by = [field.decode().split(":", 1) for field in fields]
        checkpoints = tuple(checkpoint for owner, checkpoint in made_by if owner == voice_id)
        prompt = self._prompt(key, codes, ids)
        return StoredVoice(voice_id, key, request or b"", (consent_id or b"").decode(), prompt, checkpoints)

    async def page(self, tenant: str, *, after: str, size: int) -> tuple[list[Voice], bool]:
        """Up to `size` voices with ids above `after`, in order, and whether more follow."""
        voices: list[Voice] = []
        while len(voices) <= size:
            wanted = size + 1 - len(voices)
            ids = await self.store.ask("ZRANGEBYLEX", layout.index_key(tenant), f"({after}", "+", "LIMIT", 0, wanted)
            for voice_id in (name.decode() for name in ids):
                after = voice_id
                try:
                    voices.append(await self.get(tenant, voice_id))
                except NotFound:  # deleted meanwhile, or by a gateway of an earlier version
                    with suppress(*STORE_FAILURES):
                        await self.store.write(
                            layout.UNLIST, [layout.voice_key(tenant, voice_id), layout.index_key(tenant)], [voice_id]
                        )
            if len(ids) < wanted:
                break
        return voices[:size], len(voices) > size

    async def delete(self, tenant: str, voice: StoredVoice) -> None:
        """Delete the voice and its embeddings from the store, and note its erasure in its consent.

        Raises NotFound when this voice is gone, also when there is a new one of its id.
        """
        consent = consent_key(tenant, voice.consent_id) if voice.consent_id else layout.index_key(tenant)
        keys = [voice.key, layout.index_key(tenant), *embedding_keys(tenant), consent]
        values: list[Value] = [voice.voice_id, voice.request, voice.consent_id, time.time()]
        if not await self.store.write(layout.DELETE, keys, values):
            raise NotFound(f"no voice {voice.voice_id!r}")

    async def _read(self, tenant: str, voice_id: str, names: Sequence[str]) -> tuple[str, list[bytes]]:
        """The key of a voice and the values of these fields, the first of which every voice has. Raises NotFound."""
        for key in (layout.voice_key(tenant, voice_id), layout.old_key(tenant, voice_id)):
            values = await self.store.ask("HMGET", key, *names)
            if values[0] is not None:
                if key == layout.old_key(tenant, voice_id):  # perhaps made by an earlier gateway after the indexing
                    with suppress(*STORE_FAILURES):  # reading needs no store that takes writes
                        await self.store.ask("ZADD", layout.index_key(tenant), 0, voice_id)
                return key, values
        raise NotFound(f"no voice {voice_id!r}")

    def _prompt(self, key: str, codes: bytes, ids: bytes) -> VoicePrompt:
        codes, ids = self._unseal(key, "codes", codes), self._unseal(key, "transcript_ids", ids)
        return VoicePrompt(
            frames=CodeFrames(codes=np.frombuffer(codes, dtype="<u2").tolist()),
            transcript=TokenIds(ids=np.frombuffer(ids, dtype="<u4").tolist()),
        )

    def _unseal(self, key: str, field: str, value: bytes) -> bytes:
        return self.store.cipher.unseal(f"{key} {field}", value)

    def _embeddings(self, tenant: str, voice_id: str, key: str) -> StoredEmbeddings:
        return StoredEmbeddings(self.store, self._limits, tenant=tenant, voice_id=voice_id, voice_key=key)

    async def index_old_voices(self) -> None:
        """Index the voices of earlier versions, once for a store: a walk over all its keys, before the gateway serves.

        Deletes the embeddings that those versions wrote beside each voice: nothing reads them.
        """
        async with self._indexing:
            if self._indexed:
                return
            ask = self.store.ask
            if not await ask("EXISTS", layout.VOICES_INDEXED):
                async for key in self.store.scan(f"{layout.OLD_PREFIX}*"):
                    if named := layout.named_by_old_key(key):
                        tenant, voice_id = named
                        await ask("ZADD", layout.index_key(tenant), 0, voice_id)
                        await ask("HDEL", key, "embeddings", "embeddings_dtype", "embeddings_shape")
                await ask("SET", layout.VOICES_INDEXED, 1)
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


def _taken(voice_id: str) -> AlreadyExists:
    return AlreadyExists(f"the voice {voice_id!r} exists: delete it first, or choose another id")


def _other_request() -> OtherRequest:
    return OtherRequest("this idempotency key was used for another request: use a new key for a new request")
