"""When the gateway begins to serve, and what it says while it waits."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from gateway import readiness
from gateway.readiness import Readiness
from gateway.tasks import cancel
from services.common.errors import ResourceExhausted


class Parts:
    """A server, upstreams, a store and voices, as readiness uses them."""

    def __init__(self) -> None:
        self.lacks: dict[str, str] = {}
        self.trouble = ""
        self.serving = asyncio.Event()
        self.indexing: Exception | None = None
        self.looks = 0

    def missing(self) -> dict[str, str]:
        return dict(self.lacks)

    async def check(self) -> str:
        self.looks += 1
        return self.trouble

    async def set_serving(self) -> None:
        self.serving.set()

    async def index_old_voices(self) -> None:
        if self.indexing is not None:
            raise self.indexing

    async def looked(self, times: int = 3) -> None:
        """Wait until readiness has looked again."""
        until = self.looks + times
        while self.looks < until:  # noqa: ASYNC110  # the fake sets no event
            await asyncio.sleep(0)


@pytest.fixture
def parts() -> Parts:
    return Parts()


@asynccontextmanager
async def watched(parts: Parts, monkeypatch: pytest.MonkeyPatch, permission: Any = None) -> AsyncIterator[Readiness]:
    monkeypatch.setattr(readiness, "_LOOK_EVERY_S", 0)
    monkeypatch.setattr(readiness, "_WATCH_EVERY_S", 0)
    watching = Readiness(*cast(tuple[Any, Any, Any, Any], (parts, parts, parts, parts)), permission)
    task = asyncio.create_task(watching.run())
    try:
        yield watching
    finally:
        await cancel(task)


async def test_it_serves_when_nothing_is_missing_and_goes_on_serving(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts.lacks = {"codec": "codec: none of 1 replicas serves (10.0.0.5:1)"}
    parts.trouble = "the store is away"
    async with watched(parts, monkeypatch) as watching:
        await parts.looked()
        assert watching.waiting_for() == ["codec", "store"]
        parts.lacks = {}
        await parts.looked()
        assert (watching.waiting_for(), watching.serving, parts.serving.is_set()) == (["store"], False, False)
        parts.trouble = ""
        await parts.serving.wait()
        assert (watching.waiting_for(), watching.serving) == ([], True)
        parts.trouble = "the store is away"
        await parts.looked()
        assert (watching.waiting_for(), watching.serving) == (["store"], True)
        parts.lacks = {"codec": "gone"}
        assert not watching.serving


async def test_it_waits_for_the_index_of_old_voices(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    parts.indexing = ResourceExhausted("the store is full")
    async with watched(parts, monkeypatch) as watching:
        await parts.looked()
        assert watching.waiting_for() == ["store"]
        parts.indexing = None
        await parts.serving.wait()


@pytest.mark.parametrize(("again_s", "most"), [(60.0, 1), (0.0, 1_000)], ids=["within a minute", "after a minute"])
async def test_what_is_missing_is_logged_on_a_change_and_once_a_minute(
    parts: Parts, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, again_s: float, most: int
) -> None:
    monkeypatch.setattr(readiness, "_LOG_AGAIN_S", again_s)
    parts.lacks = {"codec": "codec: none of 1 replicas serves (10.0.0.5:1)"}
    with caplog.at_level(logging.INFO):
        async with watched(parts, monkeypatch):
            await parts.looked(5)
            lines = [record.message for record in caplog.records]
            assert lines[0] == "not ready: codec: none of 1 replicas serves (10.0.0.5:1)"
            assert 1 <= len(lines) <= most
            assert (len(lines) > 1) == (again_s == 0)
            parts.trouble = "the store is away"
            await parts.looked()
            assert caplog.records[-1].message.endswith("; the store is away")
            parts.lacks, parts.trouble = {}, ""
            await parts.serving.wait()
            parts.trouble = "the store is away"
            await parts.looked()
            assert caplog.records[-1].message == "serving, but: the store is away"
            parts.trouble = ""
            await parts.looked()
            assert caplog.records[-1].message == "nothing is missing any more"


async def test_it_waits_for_permission_when_nothing_is_missing(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, given = asyncio.Event(), asyncio.Event()

    async def permission() -> None:
        asked.set()
        await given.wait()

    async with watched(parts, monkeypatch, permission) as watching:
        await asked.wait()
        await watching.until_serving(0)
        assert (watching.serving, parts.serving.is_set()) == (False, False)
        given.set()
        await watching.until_serving(60)
        assert (watching.serving, parts.serving.is_set()) == (True, True)
