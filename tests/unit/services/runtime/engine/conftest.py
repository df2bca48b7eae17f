from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from services.runtime.engine.engine import Engine
from tests.support.doubling_engine import Doubler, DoublingStream


@pytest.fixture
async def engine() -> AsyncIterator[Engine[str, int, int, list[DoublingStream]]]:
    """An engine that doubles integers, for four streams at once."""
    engine: Engine[str, int, int, list[DoublingStream]] = Engine("test", Doubler(), inbox_items=2, outbox_items=2)
    engine.start()
    yield engine
    engine.stop()
