from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from chroma_voice import Client
from tests.support.fake_gateway import FakeGateway, serving


@pytest.fixture
def gateway() -> FakeGateway:
    return FakeGateway()


@pytest.fixture
async def client(gateway: FakeGateway) -> AsyncIterator[Client]:
    async with serving(gateway) as address, Client(address) as client:
        yield client
