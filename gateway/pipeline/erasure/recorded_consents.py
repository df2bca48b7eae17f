"""Consents that a person spoke into a recording: OpenAI's voice consents. Voices are enrolled under them by their id.

A recorded consent is a consent like all others. Its words say that it is recorded, and its recording is the statement.
A voice that is enrolled under it gets a consent of its own, whose words name the recorded one: so the recording of the
voice cannot be cloned again once it is revoked. Revoking a recorded consent revokes the consents of its voices.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace

from gateway.access.audit import BEGUN, AuditLog
from gateway.access.caller import Caller
from gateway.access.usage import Usage
from gateway.audio.read import read_recording
from gateway.pipeline.enrolment import MAX_NAME_CHARS, NewVoice, add_voice, check_text
from gateway.pipeline.upstreams import UpstreamPool
from gateway.store.consents import MAX_PAGE_SIZE, Consent, Consents
from gateway.store.voices import Voice, Voices
from services.common.errors import FailedPrecondition, InvalidArgument, NotFound

MAX_STATEMENT_S = 60.0
"""Longest recording of a statement."""

_RECORDED = "recorded statement, language "
_UNDER = "as in "


def language_of(consent: Consent) -> str | None:
    """The language of a recorded consent. None: the consent is not a recorded one."""
    return consent.words.removeprefix(_RECORDED) if consent.words.startswith(_RECORDED) else None


async def record_consent(
    voices: Voices, audit: AuditLog, usage: Usage, caller: Caller, *, name: str, language: str, recording: bytes
) -> Consent:
    """Store the consent of a person of this name, who states it in a recording. The recording itself is not kept: the
    consent has its digest.

    Raises InvalidArgument, FailedPrecondition (it was revoked), ResourceExhausted, Unavailable.
    """
    if not name.strip() or not language.strip():
        raise InvalidArgument("expected the `name` of the person and the `language` of the statement")
    check_text("name", name, MAX_NAME_CHARS)
    check_text("language", language, MAX_NAME_CHARS)
    digest = hashlib.sha256(recording).hexdigest()
    words = f"{_RECORDED}{language.strip()}"
    consent = Consent(caller.tenant, name.strip(), words, digest, caller.key_id, time.time())
    async with usage.upload(caller):
        await read_recording(recording, min_s=0.0, max_s=MAX_STATEMENT_S)
        await audit.record("consent.record", BEGUN, caller, consent=consent.consent_id)
        with audit.outcome("consent.record", caller, consent=consent.consent_id):
            await voices.consents.add(consent)
    return consent


async def recorded_consent(voices: Voices, tenant: str, consent_id: str) -> Consent:
    """The recorded consent of this id. Raises NotFound, Unavailable."""
    consent = await voices.consents.get(tenant, consent_id)
    if language_of(consent) is None:
        raise NotFound(f"no recorded consent {consent_id[:80]!r}")
    return consent


async def recorded_consents(voices: Voices, tenant: str, after: str = "") -> AsyncIterator[Consent]:
    """Yield the recorded consents that hold, with ids above `after`, in order of their ids."""
    async for consent in _all(voices.consents, tenant, after):
        if language_of(consent) is not None and not consent.revoked:
            yield consent


async def add_voice_under(
    consent_id: str,
    wanted: NewVoice,
    voices: Voices,
    upstreams: UpstreamPool,
    audit: AuditLog,
    usage: Usage,
    revoke: Callable[[Caller, str], Awaitable[object]],
    caller: Caller,
) -> Voice:
    """Enrol a voice under a recorded consent. `revoke` revokes a consent by its id.

    Raises NotFound, FailedPrecondition (the consent is revoked), and what `add_voice` raises.
    """
    consent = await recorded_consent(voices, caller.tenant, consent_id)
    _check_holds(consent)
    stated = replace(wanted, consent=f"{_UNDER}{consent_id}", subject=consent.subject)
    voice = await add_voice(voices, upstreams, audit, usage, caller, stated)
    try:
        _check_holds(await recorded_consent(voices, caller.tenant, consent_id))
    except FailedPrecondition:  # it was revoked meanwhile: that revocation did not see this voice
        await revoke(caller, voice.consent_id)
        raise
    return voice


async def consents_under(consents: Consents, consent: Consent) -> list[Consent]:
    """The consents of the voices that were enrolled under a recorded consent. There are none under another one."""
    if language_of(consent) is None:
        return []
    words = f"{_UNDER}{consent.consent_id}"
    return [other async for other in _all(consents, consent.tenant, "") if other.words == words]


def _check_holds(consent: Consent) -> None:
    if consent.revoked:
        raise FailedPrecondition(f"the consent {consent.consent_id} was revoked")


async def _all(consents: Consents, tenant: str, after: str) -> AsyncIterator[Consent]:
    more = True
    while more:
        page, more = await consents.page(tenant, after=after, size=MAX_PAGE_SIZE)
        for consent in page:
            yield consent
            after = consent.consent_id
