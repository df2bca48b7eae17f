"""Consents in the store: the evidence that a person agreed to the cloning of a voice.

    chroma:consent:{TENANT}:CONSENT     hash: record, created, revoked, revoked_by, and voice:VOICE for each voice
    chroma:consents:{TENANT}            sorted set: the ids of the tenant's consents, all of score 0
    chroma:revoked_recordings:{TENANT}  hash: for each recording whose consent was revoked, its mark and the id of that
                                        consent; and `complete`, once all revocations of the tenant are in it

`record` is JSON: who agreed, the words, the SHA-256 of the recording and the id of the key that enrolled. The value of
a voice's field is the time of its enrolment, a blank, and the time of its erasure or 0. A consent holds no voice data
and stays when its voices are erased.

A consent is named by what was agreed to: the person, the words and the recording. So two voices of one recording under
the same words share a consent.

A recording of a revoked consent cannot be cloned again, under any person's name and any words: the voice in it is that
of the person who revoked. A recording is found by its mark, a digest of its SHA-256 and the tenant. Earlier versions
wrote no marks, so the first enrolment of a tenant reads all its consents and writes the marks of the revoked ones.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gateway.store.connection.server import Value
from gateway.store.redis import Store
from services.common.errors import FailedPrecondition, InvalidArgument, NotFound, ResourceExhausted

DEFAULT_PAGE_SIZE = 100
MAX_PAGE_SIZE = 1_000

MAX_CONSENTS = 100_000
"""Most consents of a tenant. They are evidence, so none is dropped to make room."""

_ID = re.compile(r"consent-[0-9a-f]{32}")

ADD_CONSENT = """
local function add_consent(key, index, recordings, id, record, created, most, mark)
  local revoked = redis.call('HGET', key, 'revoked')
  if revoked and revoked ~= '0' then return -1 end
  if mark ~= '' then
    if redis.call('HEXISTS', recordings, 'complete') == 0 then
      if redis.call('ZCARD', index) > 0 then return -4 end
      redis.call('HSET', recordings, 'complete', '1')
    end
    if redis.call('HEXISTS', recordings, mark) == 1 then return -1 end
  end
  if revoked then return 1 end
  if redis.call('ZCARD', index) >= tonumber(most) then return -2 end
  redis.call('HSET', key, 'record', record, 'created', created, 'revoked', '0', 'revoked_by', '')
  redis.call('ZADD', index, 0, id)
  return 1
end
"""
"""Lua function that stores a consent unless it is there. An empty mark stands for a recording that is not known.

Answers 1; -1: it is revoked, or another consent for its recording is; -2: the tenant has too many consents; -4: the
marks of the tenant's revoked recordings are not complete.
"""

# KEYS: consent, index, revoked recordings. ARGV: id, record, time, most consents, mark, then the field of an erased
# voice and its times, if there is one. A revoked consent takes that voice too: it is erased.
_ADD = (
    ADD_CONSENT
    + """
local added = add_consent(KEYS[1], KEYS[2], KEYS[3], ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5])
if #ARGV == 7 and (added == 1 or added == -1) then
  redis.call('HSET', KEYS[1], ARGV[6], ARGV[7])
  added = 1
end
return {added, ''}
"""
)

# KEYS: consent, revoked recordings. ARGV: time, key id, consent id, mark. The first revocation is kept.
_REVOKE = """
if redis.call('HGET', KEYS[1], 'revoked') == '0' then
  redis.call('HDEL', KEYS[1], 'revoked_by')  -- a store whose memory is full takes more from a script that has deleted
  redis.call('HSET', KEYS[1], 'revoked', ARGV[1], 'revoked_by', ARGV[2])
end
if ARGV[4] ~= '' then redis.call('HSETNX', KEYS[2], ARGV[4], ARGV[3]) end
"""

# KEYS: revoked recordings. ARGV: mark, consent id, ...; at the last page also `complete`, 1.
_MARK = """
for at = 1, #ARGV, 2 do redis.call('HSETNX', KEYS[1], ARGV[at], ARGV[at + 1]) end
"""


@dataclass(frozen=True)
class ConsentedVoice:
    """A voice that was enrolled under a consent. Times are in seconds since the epoch."""

    voice_id: str
    created: float
    erased: float
    """0: the voice is still there."""


@dataclass(frozen=True)
class Consent:
    """A consent. Times are in seconds since the epoch."""

    tenant: str
    subject: str
    """The person who agreed, as the caller named the person. Empty: only the words say it."""
    words: str
    recording_sha256: str
    """SHA-256 of the uploaded file, in hexadecimal."""
    key_id: str
    """The key whose caller stated the consent."""
    created: float
    revoked: float = 0.0
    """0: the consent holds."""
    revoked_by: str = ""
    """The key whose caller revoked it."""
    voices: tuple[ConsentedVoice, ...] = ()

    @property
    def consent_id(self) -> str:
        """The id: a digest of who agreed, to which words and for which recording."""
        agreed = json.dumps([self.tenant, self.subject, self.words, self.recording_sha256])
        return f"consent-{hashlib.sha256(agreed.encode()).hexdigest()[:32]}"

    @property
    def recording_mark(self) -> str:
        """What the recording is found by among the tenant's revoked ones. Empty: the recording is not known."""
        if not self.recording_sha256:
            return ""
        return hashlib.sha256(json.dumps([self.tenant, self.recording_sha256]).encode()).hexdigest()[:32]


class Consents:
    """All consents. Every method raises Unavailable while the store is away."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def add(self, consent: Consent) -> None:
        """Store a consent, with the erased voices that it names.

        Raises FailedPrecondition when it is revoked or another consent for its recording is, ResourceExhausted when the
        tenant has too many.
        """
        keys = consent_keys(consent)
        values = [*self.values(consent), consent.recording_mark]
        for voice in consent.voices or (None,):
            named = [f"voice:{voice.voice_id}", f"{voice.created} {voice.erased}"] if voice else []
            await self.write(_ADD, keys, [*values, *named], consent)

    async def check(self, consent: Consent) -> None:
        """Raises FailedPrecondition when the consent, or another one for its recording, is revoked."""
        key, names = revoked_recordings_key(consent.tenant), [consent.recording_mark, "complete"]
        revoked_under, complete = await self._store.ask("HMGET", key, *names)
        if not complete:
            await self._mark_revoked(consent.tenant)
            revoked_under, _ = await self._store.ask("HMGET", key, *names)
        if revoked_under:
            raise _revoked()

    async def write(self, script: str, keys: Sequence[str], values: Sequence[Value], consent: Consent) -> Any:
        """Run a script that adds a consent, and return its answer: a number and what belongs to it.

        Raises FailedPrecondition and ResourceExhausted as `add` does.
        """
        answer = await self._store.write(script, keys, values)
        if answer[0] == -4:
            await self._mark_revoked(consent.tenant)
            answer = await self._store.write(script, keys, values)
        if answer[0] == -1:
            raise _revoked()
        if answer[0] == -2:
            raise ResourceExhausted(f"the tenant has {MAX_CONSENTS} consents, as many as it may", resource="consents")
        return answer

    def values(self, consent: Consent) -> list[Value]:
        """The consent's id, record and time and the most consents of a tenant, as `add_consent` takes them."""
        return [consent.consent_id, self._seal_record(consent), consent.created, MAX_CONSENTS]

    async def get(self, tenant: str, consent_id: str) -> Consent:
        """The consent. Raises NotFound."""
        fields = {}
        key = consent_key(tenant, consent_id)
        if _ID.fullmatch(consent_id):
            fields = await self._store.ask("HGETALL", key)
        if not fields:
            raise NotFound(f"no consent {consent_id[:80]!r}")
        record = json.loads(self._store.cipher.unseal(_place(tenant, consent_id), fields[b"record"]))
        voices = [
            ConsentedVoice(name.decode().removeprefix("voice:"), *map(float, times.split()))
            for name, times in sorted(fields.items())
            if name.startswith(b"voice:")
        ]
        return Consent(
            tenant,
            **record,
            created=float(fields[b"created"]),
            revoked=float(fields[b"revoked"]),
            revoked_by=fields[b"revoked_by"].decode(),
            voices=tuple(voices),
        )

    async def page(self, tenant: str, *, after: str, size: int) -> tuple[list[Consent], bool]:
        """Up to `size` consents with ids above `after`, in order, and whether more follow."""
        ids = await self._store.ask("ZRANGEBYLEX", consents_key(tenant), f"({after}", "+", "LIMIT", 0, size + 1)
        return [await self.get(tenant, name.decode()) for name in ids[:size]], len(ids) > size

    async def revoke(self, tenant: str, consent_id: str, key_id: str) -> Consent:
        """Mark the consent as revoked and return it. From then on nothing can be enrolled under it, and its recording
        cannot be enrolled under any other. Raises NotFound."""
        consent = await self.get(tenant, consent_id)
        keys = [consent_key(tenant, consent_id), revoked_recordings_key(tenant)]
        await self._store.write(_REVOKE, keys, [time.time(), key_id, consent_id, consent.recording_mark])
        return await self.get(tenant, consent_id)

    async def _mark_revoked(self, tenant: str) -> None:
        """Write the marks of the recordings of all revoked consents: once for a tenant, by reading all its consents."""
        after, complete = "", False
        while not complete:
            ids = await self._store.ask(
                "ZRANGEBYLEX", consents_key(tenant), f"({after}", "+", "LIMIT", 0, MAX_PAGE_SIZE
            )
            names = [name.decode() for name in ids]
            looks = [("HGET", consent_key(tenant, name), "revoked") for name in names]
            revoked = await self._store.ask_all(looks) if names else []
            found = [await self.get(tenant, name) for name, at in zip(names, revoked, strict=True) if at != b"0"]
            known = [consent for consent in found if consent.recording_mark]
            marks = [value for consent in known for value in (consent.recording_mark, consent.consent_id)]
            complete = len(names) < MAX_PAGE_SIZE
            done = ["complete", 1] if complete and (after or names) else []  # a tenant without consents needs no marks
            if marks or done:
                await self._store.write(_MARK, [revoked_recordings_key(tenant)], [*marks, *done])
            after = names[-1] if names else after

    def _seal_record(self, consent: Consent) -> bytes:
        """The value of the consent's field `record`."""
        record = {
            "subject": consent.subject,
            "words": consent.words,
            "recording_sha256": consent.recording_sha256,
            "key_id": consent.key_id,
        }
        return self._store.cipher.seal(_place(consent.tenant, consent.consent_id), json.dumps(record).encode())


def check_consent_id(consent_id: str) -> None:
    """Raises InvalidArgument unless `consent_id` can be the id of a consent."""
    if not _ID.fullmatch(consent_id):
        raise InvalidArgument(f"expected the id of a consent, got {consent_id[:80]!r}")


def consent_key(tenant: str, consent_id: str) -> str:
    """The key of a consent."""
    return f"chroma:consent:{{{tenant}}}:{consent_id}"


def consents_key(tenant: str) -> str:
    """The key of a tenant's index of consents."""
    return f"chroma:consents:{{{tenant}}}"


def revoked_recordings_key(tenant: str) -> str:
    """The key of a tenant's revoked recordings."""
    return f"chroma:revoked_recordings:{{{tenant}}}"


def consent_keys(consent: Consent) -> list[str]:
    """The keys that `add_consent` takes."""
    tenant = consent.tenant
    return [consent_key(tenant, consent.consent_id), consents_key(tenant), revoked_recordings_key(tenant)]


def _revoked() -> FailedPrecondition:
    return FailedPrecondition(
        "the consent to clone this recording was revoked: ask the person again, for a new recording and a new consent"
    )


def _place(tenant: str, consent_id: str) -> str:
    return f"{consent_key(tenant, consent_id)} record"
