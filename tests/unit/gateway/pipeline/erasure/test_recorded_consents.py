"""Which consents are recorded ones, and which voices were enrolled under them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import pytest

from gateway.pipeline.erasure.recorded_consents import (
    consents_under,
    language_of,
    recorded_consent,
    recorded_consents,
)
from gateway.store.consents import Consent, Consents
from gateway.store.voices import Voices
from services.common.errors import NotFound

TENANT = "acme"


def _consent(words: str, digest: str, *, revoked: float = 0.0) -> Consent:
    return replace(Consent(TENANT, "Ada", words, digest * 64, "key", 1.0), revoked=revoked)


SPOKEN = _consent("recorded statement, language en", "a")
REVOKED = _consent("recorded statement, language de", "b", revoked=2.0)
WRITTEN = _consent("Ada agreed in writing", "c")
UNDER = _consent(f"as in {SPOKEN.consent_id}", "d")


class _Consents:
    """The consents of one tenant, on pages of two."""

    def __init__(self, *consents: Consent) -> None:
        self._all = sorted(consents, key=lambda consent: consent.consent_id)

    async def get(self, tenant: str, consent_id: str) -> Consent:
        return next(consent for consent in self._all if consent.consent_id == consent_id)

    async def page(self, tenant: str, *, after: str, size: int) -> tuple[list[Consent], bool]:
        rest = [consent for consent in self._all if consent.consent_id > after]
        return rest[:2], len(rest) > 2


CONSENTS = cast(Consents, _Consents(SPOKEN, REVOKED, WRITTEN, UNDER))


class _Voices:
    consents = CONSENTS


VOICES = cast(Voices, cast(Any, _Voices()))


def test_a_recorded_consent_has_a_language_and_others_have_none() -> None:
    assert [language_of(consent) for consent in (SPOKEN, REVOKED, WRITTEN, UNDER)] == ["en", "de", None, None]


async def test_only_recorded_consents_are_found_as_such() -> None:
    assert await recorded_consent(VOICES, TENANT, SPOKEN.consent_id) == SPOKEN
    with pytest.raises(NotFound):
        await recorded_consent(VOICES, TENANT, WRITTEN.consent_id)


async def test_the_list_has_the_recorded_consents_that_hold_over_all_pages() -> None:
    assert [consent async for consent in recorded_consents(VOICES, TENANT)] == [SPOKEN]


async def test_the_consents_of_voices_are_found_by_the_recorded_one_that_they_name() -> None:
    assert await consents_under(CONSENTS, SPOKEN) == [UNDER]
    assert await consents_under(CONSENTS, WRITTEN) == []
