"""Erasure: a voice, a session, a consent's voices or a whole tenant leave every place that holds a copy.

    audit record -> list of what replicas have to forget -> store, acknowledged durably
                 -> append-only file rewritten, replicas told -> audit record

The audit record comes first: without it nothing is erased.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass

from gateway.access.audit import BEGUN, AuditLog, shortened
from gateway.access.caller import Caller
from gateway.access.limits import LimitName
from gateway.access.usage import Usage
from gateway.pipeline.erasure.forgetting import Forgetting
from gateway.pipeline.erasure.recorded_consents import consents_under
from gateway.pipeline.upstreams import UpstreamPool
from gateway.store.compaction import Compaction
from gateway.store.connection.failures import STORE_FAILURES
from gateway.store.consents import Consent, ConsentedVoice
from gateway.store.pending_erasures import PendingErasure
from gateway.store.sessions import Sessions
from gateway.store.tenant_keys import TenantKeys
from gateway.store.voices import MAX_PAGE_SIZE, SpokenVoice, StoredVoice, Voices
from gateway.tasks import cancel
from services.common.errors import NotFound

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Erasure:
    """How far an erasure has come when it is answered. The store has deleted the values in any case."""

    file_rewritten: bool
    """Whether the store's append-only file was rewritten without the deleted values."""
    pending_replicas: int
    """Replicas that have not yet acknowledged that they forgot. They are asked again until they do or are gone."""


@dataclass(frozen=True)
class TenantErasure:
    """The erasure of a tenant."""

    sessions: int
    """Sessions that were deleted."""
    voices: int
    """Voices that were deleted."""
    erasure: Erasure


class Eraser:
    """Erases what belongs to a tenant."""

    def __init__(
        self, upstreams: UpstreamPool, sessions: Sessions, voices: Voices, audit: AuditLog, usage: Usage
    ) -> None:
        self._sessions = sessions
        self._voices = voices
        self._audit = audit
        self._usage = usage
        self._compaction = Compaction(voices.store)
        self._forgetting = Forgetting(upstreams, voices.store)
        self._retries: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Ask replicas again from now on, that did not acknowledge an erasure."""
        self._retries = asyncio.create_task(self._forgetting.run())

    async def close(self) -> None:
        """End what goes on in the background."""
        if self._retries is not None:
            await cancel(self._retries)
        await self._compaction.close()

    async def voice(self, caller: Caller, voice_id: str) -> Erasure:
        """Erase a voice. Its consent stays. Raises NotFound, Unavailable."""
        voice = await self._voices.stored(caller.tenant, voice_id)
        names = {"voice": voice_id, "consent": voice.consent_id}
        await self._audit.record("voice.delete", BEGUN, caller, **names)
        with self._audit.outcome("voice.delete", caller, **names):
            await self._keep_consent(caller.tenant, voice)
            pending = await self._forgetting.plan_voice(voice.prompt, voice.checkpoints)
            await self._voices.delete(caller.tenant, voice)
            await self._usage.let_go(caller.tenant, LimitName.VOICES, voice_id)
        return await self._spread([pending])

    def item(self) -> None:
        """Take what was removed from a session's history out of the store's file, in the background. It is out of the
        session already; nothing waits for the file."""
        self._compaction.request()

    async def ephemeral_voice(self, voice: SpokenVoice) -> None:
        """Make the replicas forget a voice that is in no store. A replica that is away is told later."""
        try:
            await self._forgetting.carry_out(await self._forgetting.plan_voice(voice.prompt))
        except STORE_FAILURES as error:
            log.warning("the voice of a single request stays in the replicas' caches: %s", error)

    async def consent(self, caller: Caller, consent_id: str) -> tuple[Consent, Erasure]:
        """Revoke a consent and erase all its voices; of a recorded consent, those that were enrolled under it. The
        consent stays, marked as revoked. Raises NotFound,
        Unavailable. A consent that is revoked already is revoked again, which erases what an earlier call left."""
        consents = self._voices.consents
        await consents.get(caller.tenant, consent_id)
        await self._audit.record("consent.revoke", BEGUN, caller, consent=consent_id)
        with self._audit.outcome("consent.revoke", caller, consent=consent_id):
            revoked = await consents.revoke(caller.tenant, consent_id, caller.key_id)
            under = await consents_under(consents, revoked)
            all_revoked = [revoked]
            all_revoked += [await consents.revoke(caller.tenant, it.consent_id, caller.key_id) for it in under]
            deletions = [
                await self._delete_voice(caller, consented.voice_id, it.consent_id)
                for it in all_revoked
                for consented in it.voices
            ]
        erasure = await self._spread([pending for pending in deletions if pending is not None])
        return await consents.get(caller.tenant, consent_id), erasure

    async def session(self, caller: Caller, session_id: str) -> Erasure:
        """Erase a session with its turns and their audio. Raises NotFound, Unavailable."""
        name = shortened(session_id)
        await self._sessions.check(caller.tenant, session_id)
        await self._audit.record("session.delete", BEGUN, caller, session=name)
        with self._audit.outcome("session.delete", caller, session=name):
            pending = await self._forgetting.plan_session(session_id)
            await self._sessions.delete(caller.tenant, session_id)
            await self._usage.let_go(caller.tenant, LimitName.SESSIONS, session_id)
        return await self._spread([pending])

    async def tenant(self, caller: Caller) -> TenantErasure:
        """Erase everything of the caller's tenant but its consents, which stay as evidence. Raises Unavailable.

        What callers of the tenant store meanwhile may stay.
        """
        tenant, keys = caller.tenant, TenantKeys(self._voices.store, caller.tenant)
        await self._audit.record("tenant.erase", BEGUN, caller)
        with self._audit.outcome("tenant.erase", caller):
            scope = await self._forgetting.plan_tenant(tenant)
            deletions = [await self._delete_voice(caller, voice_id) for voice_id in await self._voice_ids(tenant)]
            voices = [pending for pending in deletions if pending is not None]
            sessions = {session_id async for session_id in keys.sessions()}
            for session_id in sessions:
                try:
                    await self._sessions.delete(tenant, session_id)
                except NotFound:
                    continue  # it was deleted, or it expired meanwhile
            await self._usage.let_go(tenant, LimitName.SESSIONS, *sessions)
            await keys.delete()
        return TenantErasure(len(sessions), len(voices), await self._spread([scope, *voices]))

    async def _voice_ids(self, tenant: str) -> list[str]:
        ids: list[str] = []
        more = True
        while more:
            voices, more = await self._voices.page(tenant, after=ids[-1] if ids else "", size=MAX_PAGE_SIZE)
            ids += [voice.voice_id for voice in voices]
        return ids

    async def _delete_voice(self, caller: Caller, voice_id: str, consent_id: str = "") -> PendingErasure | None:
        """Delete the voice of this id from the store if it is there, and was enrolled under this consent if one is
        named. Returns what replicas have to forget."""
        try:
            voice = await self._voices.stored(caller.tenant, voice_id)
            if consent_id not in ("", voice.consent_id):
                return None
            await self._audit.record("voice.delete", BEGUN, caller, voice=voice_id, consent=voice.consent_id)
            await self._keep_consent(caller.tenant, voice)
            pending = await self._forgetting.plan_voice(voice.prompt, voice.checkpoints)
            await self._voices.delete(caller.tenant, voice)
            await self._usage.let_go(caller.tenant, LimitName.VOICES, voice_id)
        except NotFound:
            return None  # deleted meanwhile
        return pending

    async def _keep_consent(self, tenant: str, voice: StoredVoice) -> None:
        """Store the consent of a voice that an earlier version enrolled: it is in the voice only."""
        if not voice.consent_id:
            old = await self._voices.get(tenant, voice.voice_id)
            erased = ConsentedVoice(voice.voice_id, old.created, time.time())
            await self._voices.consents.add(Consent(tenant, "", old.consent, "", "", old.created, voices=(erased,)))

    async def _spread(self, deletions: Sequence[PendingErasure]) -> Erasure:
        """Take what the store has deleted out of its file and out of the replicas."""
        left = await asyncio.gather(*(self._forgetting.carry_out(pending) for pending in deletions))
        # The file comes last: until then the list of what replicas have to forget names the session or the voice.
        return Erasure(await self._compaction.rewrite(), max(left, default=0))
