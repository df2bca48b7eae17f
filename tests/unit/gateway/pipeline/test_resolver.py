"""When a target is resolved, and which addresses it has."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from gateway.pipeline import resolver
from gateway.pipeline.resolver import Resolver


class FoundAddresses:
    """What a resolver found, resolution by resolution."""

    def __init__(self) -> None:
        self.each: list[set[str]] = []
        self.news = asyncio.Event()

    def __call__(self, addresses: set[str]) -> None:
        self.each.append(addresses)
        self.news.set()


@asynccontextmanager
async def _resolving(target: str) -> AsyncIterator[tuple[Resolver, FoundAddresses]]:
    found = FoundAddresses()
    resolving = Resolver(target, found)
    await resolving.start()
    yield resolving, found
    await resolving.close()


async def test_plain_addresses_stand_for_themselves_and_are_resolved_once() -> None:
    async with _resolving("10.0.0.1:1, b:2 ,") as (resolving, found):
        await resolving.resolve_early()
        assert found.each == [{"10.0.0.1:1", "b:2"}]


async def test_a_name_stands_for_each_of_its_addresses() -> None:
    async with _resolving("dns:///localhost:50051") as (_, found):
        assert "127.0.0.1:50051" in found.each[0]


async def test_a_name_that_cannot_be_resolved_has_no_address() -> None:
    async with _resolving("dns:///nowhere.invalid:50051,b:2") as (_, found):
        assert found.each == [{"b:2"}]


async def test_a_name_that_cannot_be_resolved_any_more_keeps_its_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    answers: dict[str, set[str] | None] = {"a:1": {"1.1.1.1:1"}, "b:1": {"2.2.2.2:1"}}

    async def answer(name: str) -> set[str] | None:
        return answers[name]

    monkeypatch.setattr(resolver, "_addresses_of", answer)
    monkeypatch.setattr(resolver, "_EARLY_EVERY_S", 0.0)
    async with _resolving("dns:///a:1,dns:///b:1") as (resolving, found):
        answers.update({"a:1": None, "b:1": {"3.3.3.3:1"}})
        await resolving.resolve_early()
        assert found.each[-1] == {"1.1.1.1:1", "3.3.3.3:1"}


async def test_names_are_resolved_again_by_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolver, "RESOLVE_EVERY_S", 0.0)
    async with _resolving("dns:///127.0.0.1:1") as (_, found), asyncio.timeout(30):
        while len(found.each) < 3:
            found.news.clear()
            await found.news.wait()


async def test_many_early_requests_within_half_a_second_are_one_resolution(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolver, "_EARLY_EVERY_S", 0.05)
    monkeypatch.setattr(resolver, "_EARLY_LIMIT_S", 30.0)
    async with _resolving("dns:///127.0.0.1:1") as (resolving, found):
        await asyncio.gather(*(resolving.resolve_early() for _ in range(20)))
        assert len(found.each) == 2


async def test_a_name_server_that_does_not_answer_holds_a_caller_for_a_limited_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with _resolving("dns:///127.0.0.1:1") as (resolving, found):

        async def never(name: str) -> set[str] | None:
            await asyncio.Event().wait()
            return None

        monkeypatch.setattr(resolver, "_addresses_of", never)
        monkeypatch.setattr(resolver, "_EARLY_LIMIT_S", 0.01)
        await resolving.resolve_early()
        assert len(found.each) == 1
