"""A Realtime connection without transport."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.support.realtime_room import RealtimeRoom, realtime_room


@pytest.fixture
async def room() -> AsyncIterator[RealtimeRoom]:
    """The shared parts of a connection whose conversation runs."""
    async with realtime_room() as room:
        yield room
