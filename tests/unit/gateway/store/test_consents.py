"""Consents in a real store: kept, listed, revoked."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.store import consents as module
from gateway.store.consents import Consent, ConsentedVoice, Consents, check_consent_id, revoked_recordings_key
from gateway.store.redis import Store
from services.common.errors import FailedPrecondition, InvalidArgument, NotFound, ResourceExhausted
from tests.support.hurt_store import raw

ADA = Consent("t", "Ada", "Ada agreed in writing", "ab" * 32, "key-1", 100.25)


@pytest.fixture
def consents(store: Store) -> Consents:
    return Consents(store)


async def test_a_consent_is_read_as_it_was_given_by_its_tenant_alone(consents: Consents) -> None:
    await consents.add(ADA)
    assert await consents.get("t", ADA.consent_id) == ADA
    for tenant, consent_id in (("other", ADA.consent_id), ("t", "consent-0"), ("t", "")):
        with pytest.raises(NotFound, match="no consent"):
            await consents.get(tenant, consent_id)


def test_a_consent_is_named_by_its_tenant_person_words_and_recording() -> None:
    check_consent_id(ADA.consent_id)
    assert replace(ADA, key_id="key-2", created=7.0).consent_id == ADA.consent_id
    for change in ({"tenant": "u"}, {"subject": "Eve"}, {"words": "no"}, {"recording_sha256": "cd" * 32}):
        assert replace(ADA, **change).consent_id != ADA.consent_id
    with pytest.raises(InvalidArgument):
        check_consent_id("ada")


async def test_the_same_consent_stated_again_stays_as_it_was(consents: Consents) -> None:
    await consents.add(ADA)
    await consents.add(replace(ADA, key_id="key-2", created=7.0))
    assert await consents.get("t", ADA.consent_id) == ADA


async def test_a_revoked_consent_stays_and_cannot_be_used_again(consents: Consents) -> None:
    await consents.add(ADA)
    revoked = await consents.revoke("t", ADA.consent_id, "key-2")
    assert revoked == replace(ADA, revoked=revoked.revoked, revoked_by="key-2")
    assert revoked.revoked > ADA.created
    assert await consents.revoke("t", ADA.consent_id, "key-3") == revoked
    with pytest.raises(FailedPrecondition, match="was revoked"):
        await consents.add(ADA)
    for tenant, consent_id in (("other", ADA.consent_id), ("t", "consent-0")):
        with pytest.raises(NotFound):
            await consents.revoke(tenant, consent_id, "key-2")


EVE = replace(ADA, subject="Eve", words="Eve agreed")
"""A consent of another person, in other words, for the recording of Ada's."""


@pytest.mark.parametrize("is_known", [False, True])
async def test_a_recording_whose_consent_was_revoked_is_refused_under_any_other(
    consents: Consents, is_known: bool
) -> None:
    await consents.add(ADA)
    if is_known:
        await consents.add(EVE)
    await consents.check(EVE)
    await consents.revoke("t", ADA.consent_id, "key-2")
    for attempt in (consents.check, consents.add):
        with pytest.raises(FailedPrecondition, match="was revoked"):
            await attempt(EVE)
    for other in (replace(EVE, tenant="other"), replace(EVE, recording_sha256="cd" * 32)):
        await consents.check(other)
        await consents.add(other)


@pytest.mark.parametrize("attempt", ["check", "add"])
async def test_revocations_of_earlier_versions_are_found(
    consents: Consents, store: Store, monkeypatch: pytest.MonkeyPatch, attempt: str
) -> None:
    monkeypatch.setattr(module, "MAX_PAGE_SIZE", 2)
    given = [replace(ADA, words=str(number), recording_sha256=f"{number:064x}") for number in range(6)]
    for consent in given:
        await consents.add(consent)
    for consent in given[::2]:
        await consents.revoke("t", consent.consent_id, "key-2")
    await raw(store).delete(revoked_recordings_key("t"))  # earlier versions wrote none
    for number, consent in enumerate(given):
        named_anew = replace(consent, subject="Eve")
        if number % 2:
            await getattr(consents, attempt)(named_anew)
        else:
            with pytest.raises(FailedPrecondition, match="was revoked"):
                await getattr(consents, attempt)(named_anew)
    assert await raw(store).hlen(revoked_recordings_key("t")) == 4


async def test_an_erased_voice_is_noted_in_its_consent_also_when_that_is_revoked(consents: Consents) -> None:
    unknown = replace(ADA, recording_sha256="")
    await consents.add(replace(unknown, voices=(ConsentedVoice("one", 1.0, 2.0),)))
    await consents.revoke("t", unknown.consent_id, "key-2")
    await consents.add(replace(unknown, voices=(ConsentedVoice("two", 3.0, 4.0),)))
    assert [voice.voice_id for voice in (await consents.get("t", unknown.consent_id)).voices] == ["one", "two"]
    await consents.add(replace(unknown, subject="Eve"))  # a recording that is not known has no other consent


async def test_consents_are_listed_in_pages_in_order_of_their_ids(consents: Consents) -> None:
    given = sorted((replace(ADA, words=str(number)) for number in range(3)), key=lambda it: it.consent_id)
    for consent in given:
        await consents.add(consent)
    assert await consents.page("t", after="", size=2) == (given[:2], True)
    assert await consents.page("t", after=given[1].consent_id, size=2) == (given[2:], False)
    assert await consents.page("other", after="", size=2) == ([], False)


async def test_a_tenant_has_a_limit_of_consents(consents: Consents, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_CONSENTS", 1)
    await consents.add(ADA)
    await consents.add(ADA)
    with pytest.raises(ResourceExhausted, match="1 consents"):
        await consents.add(replace(ADA, words="another"))
