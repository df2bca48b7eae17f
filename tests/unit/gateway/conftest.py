"""A store that is empty at first, and the settings that a gateway needs."""

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


@pytest.fixture
def required_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the variables that have no default."""
    for name, value in {"REASONER": "a:1", "SPEECH_GEN": "b:1", "CODEC": "c:1", "REDIS_URL": "redis://d:1"}.items():
        monkeypatch.setenv(f"CHROMA_{name}", value)
