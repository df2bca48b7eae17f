"""The answers to requests whose path the API has, and whose method it does not have: status 405 with `Allow`."""

from __future__ import annotations

from collections.abc import Sequence, Set

from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.types import Receive, Scope, Send

from gateway.api.errors import refusal


def other_methods(routes: Sequence[BaseRoute]) -> list[Route]:
    """Return a route for each path of `routes`, for the methods that the path does not have. They follow `routes`.

    A path may have several routes. Starlette alone would name the methods of the first one in `Allow`.
    """
    methods: dict[str, set[str]] = {}
    sockets = {route.path for route in routes if isinstance(route, WebSocketRoute)}
    for route in routes:
        if isinstance(route, Route):
            methods.setdefault(route.path, set()).update(route.methods or ())
    answers = [Route(path, _NotAllowed(sorted(names))) for path, names in methods.items() if path not in sockets]
    return answers + [Route(path, _OnlyWebSocket(methods.get(path, set()))) for path in sorted(sockets)]


class _NotAllowed:
    """Refuses every request: its path has these methods only."""

    def __init__(self, methods: Sequence[str]) -> None:
        self._methods = methods

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        raise HTTPException(405, headers={"Allow": ", ".join(self._methods)})


class _OnlyWebSocket:
    """Refuses every request: its path opens a WebSocket, and takes requests of these methods only."""

    def __init__(self, methods: Set[str]) -> None:
        self._methods = sorted({"GET", *methods})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] != "GET":
            raise HTTPException(405, headers={"Allow": ", ".join(self._methods)})
        answer: Response = refusal(
            426,
            "upgrade_required",
            "this path opens a WebSocket: expected a WebSocket handshake",
            {"Connection": "Upgrade", "Upgrade": "websocket"},
        )
        await answer(scope, receive, send)
