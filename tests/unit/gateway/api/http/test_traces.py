"""Which trace a request or a WebSocket continues."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.api.http.traces import Traces
from services.common.rpc import context

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


async def _taken(kind: str, headers: list[tuple[bytes, bytes]]) -> str:
    """The trace in force while the application runs."""
    found = ""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal found
        found = context.traceparent.get()

    await Traces(app)({"type": kind, "headers": headers}, None, None)  # type: ignore[arg-type]
    return found


@pytest.mark.parametrize("kind", ["http", "websocket"])
async def test_a_callers_trace_is_continued(kind: str) -> None:
    assert await _taken(kind, [(b"traceparent", PARENT.encode())]) == PARENT


@pytest.mark.parametrize("told", ["", "00-forged line", PARENT.replace("00-4", "01-4"), PARENT + "-more"])
async def test_what_is_no_trace_is_not_taken(told: str) -> None:
    assert await _taken("http", [(b"traceparent", told.encode())]) == ""


async def test_a_request_without_a_trace_does_not_continue_the_one_before() -> None:
    context.traceparent.set(PARENT)
    assert await _taken("http", []) == ""
