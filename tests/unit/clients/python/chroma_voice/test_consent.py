"""Consents as the client sees them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from chroma_voice import Client
from tests.support.fake_gateway import FakeGateway, serving

CREATED, REVOKED = (datetime.fromtimestamp(at, UTC) for at in (1_700_000_000, 1_700_000_100))
FIELDS: Any = {"audio_file": b"RIFF", "transcript": "Beep.", "consent": "Ann agreed"}


async def test_a_consent_is_read_listed_and_revoked() -> None:
    gateway = FakeGateway()
    async with serving(gateway) as address, Client(address) as client:
        voice = await client.create_voice("ann", consent_subject="Ann", **FIELDS)
        for name in ("bob", "cy"):
            await client.create_voice(name, **FIELDS)
        consent = await client.get_consent(voice.consent_id)
        assert (consent.subject, consent.words, consent.key_id) == ("Ann", "Ann agreed", "key-1")
        assert (consent.created, consent.revoked, consent.voices[0].erased) == (CREATED, None, None)
        revoked = await client.revoke_consent(voice.consent_id)
        assert (revoked.revoked, revoked.voices[0].voice_id, revoked.voices[0].erased) == (REVOKED, "ann", REVOKED)
        assert [it.consent_id async for it in client.list_consents()] == ["consent-0", "consent-1", "consent-2"]


async def test_a_conversation_says_that_it_is_not_to_be_stored() -> None:
    gateway = FakeGateway()
    async with serving(gateway) as address, Client(address) as client:
        async with client.conversation(voice="reader", store=False):
            pass
        async with client.conversation(voice="reader"):
            pass
    unstored, stored = (request.open for request in gateway.requests)
    assert (unstored.HasField("store"), unstored.store) == (True, False)
    assert not stored.HasField("store")
