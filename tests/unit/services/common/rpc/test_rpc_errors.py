"""Statuses to domain errors. The server's side is in test_server.py, over real calls."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest
from grpc import aio

from services.common.errors import ChromaError, NotFound, ResourceExhausted
from services.common.rpc import rpc_errors
from services.common.rpc.rpc_errors import RETRY_AFTER_KEY, domain_error


def failed_call(status: grpc.StatusCode, details: str | None, *trailers: tuple[str, str]) -> aio.AioRpcError:
    return aio.AioRpcError(status, aio.Metadata(), aio.Metadata(*trailers), details=details)


def test_a_status_becomes_the_domain_error_with_its_message() -> None:
    error = domain_error(failed_call(grpc.StatusCode.NOT_FOUND, "no voice 'x'"))
    assert (type(error), error.message) == (NotFound, "no voice 'x'")


def test_a_status_that_no_domain_error_has_becomes_the_root() -> None:
    error = domain_error(failed_call(grpc.StatusCode.DATA_LOSS, None))
    assert (type(error), error.message) == (ChromaError, "DATA_LOSS")


@pytest.mark.parametrize(("trailer", "retry_after_s"), [("250", 0.25), ("soon", 1.0)])
def test_the_wait_of_a_full_server_is_read_from_its_trailer(trailer: str, retry_after_s: float) -> None:
    error = domain_error(failed_call(grpc.StatusCode.RESOURCE_EXHAUSTED, "full", (RETRY_AFTER_KEY, trailer)))
    assert isinstance(error, ResourceExhausted)
    assert error.retry_after_s == retry_after_s


async def test_a_caller_who_never_stops_sending_delays_the_error_for_a_bounded_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rpc_errors, "MAX_DRAIN_S", 0.02)

    async def endless() -> AsyncIterator[int]:
        while True:
            yield 0
            await asyncio.sleep(0)

    await asyncio.wait_for(rpc_errors._drain(endless()), 5)
