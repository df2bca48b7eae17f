"""A store that is empty at first."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from gateway.store.redis import Store


@pytest.fixture
async def store(redis_url: str) -> AsyncIterator[Store]:
    """A store over the shared Valkey, emptied."""
    store = Store(redis_url)
    yield store
    await store.close()
