"""Requests with a method that their path does not have."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from gateway.api.methods import other_methods


async def _answer(request: Request) -> PlainTextResponse:
    return PlainTextResponse(request.method)


async def _talk(socket: WebSocket) -> None:
    raise AssertionError("no request opens the WebSocket")


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    """A client of an application with two routes of one path, a WebSocket, and a path with both."""
    routes = [
        Route("/voices", _answer, methods=["GET"]),
        Route("/voices", _answer, methods=["POST"]),
        WebSocketRoute("/stream", _talk),
        Route("/talk", _answer, methods=["POST"]),
        WebSocketRoute("/talk", _talk),
    ]
    app = Starlette(routes=[*routes, *other_methods(routes)])
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as http:  # pyright: ignore[reportArgumentType]
        yield http


async def test_the_refusal_names_the_methods_of_all_routes_of_the_path(http: httpx.AsyncClient) -> None:
    answer = await http.delete("/voices")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD, POST")
    assert [(await http.request(method, "/voices")).text for method in ("GET", "POST")] == ["GET", "POST"]


@pytest.mark.parametrize(("path", "allow"), [("/stream", "GET"), ("/talk", "GET, POST")])
async def test_a_path_of_a_websocket_names_get_beside_its_methods(
    http: httpx.AsyncClient, path: str, allow: str
) -> None:
    answer = await http.put(path)
    assert (answer.status_code, answer.headers["allow"]) == (405, allow)


async def test_a_get_of_a_websocket_asks_for_the_handshake(http: httpx.AsyncClient) -> None:
    answer = await http.get("/stream")
    assert (answer.status_code, answer.headers["connection"]) == (426, "Upgrade")
    assert (answer.headers["upgrade"], answer.json()["error"]["code"]) == ("websocket", "upgrade_required")


async def test_an_unknown_path_stays_not_found(http: httpx.AsyncClient) -> None:
    assert (await http.get("/unknown")).status_code == 404
