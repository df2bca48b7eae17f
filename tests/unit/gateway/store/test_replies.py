"""Texts of spoken replies in a real store."""

from __future__ import annotations

import time

import pytest

from gateway.store.redis import Store
from gateway.store.replies import Replies
from services.common.errors import NotFound
from tests.support.hurt_store import raw


async def test_a_text_is_kept_for_an_hour_for_its_tenant_alone(store: Store) -> None:
    replies = Replies(store)
    expires = await replies.keep("a", "audio-1", "Grüße")
    assert 3_590 <= expires - time.time() <= 3_600
    assert await replies.text("a", "audio-1") == "Grüße"
    assert 3_590 <= await raw(store).ttl("chroma:reply:a:audio-1") <= 3_600
    with pytest.raises(NotFound, match="its hour is over"):
        await replies.text("b", "audio-1")


async def test_a_text_expires_at_once_when_the_store_is_away() -> None:
    store = Store("redis://127.0.0.1:1")
    assert await Replies(store).keep("a", "audio-1", "Hi") <= time.time()
    await store.close()
