"""ASGI middleware that checks HTTP request bodies: their type and their size."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Sequence

from starlette.datastructures import Headers
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.access.identity import Identified
from gateway.api.errors import BadParameter, TooLarge, refusal
from gateway.metrics import HTTP_REFUSED
from gateway.processes.shared_counts import BODY_BYTES, SharedCount, SharedCounts
from services.common.errors import ResourceExhausted

_LENGTH = re.compile(r"[0-9]{1,18}")
_METHODS = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_JSON = "application/json"
_FORM = "multipart/form-data"
_SDP = "application/sdp"


def stated_bytes(headers: Headers) -> int:
    """Return the length that the headers of a request state for its body. 0: none. Raises BadParameter for no
    number."""
    length = headers.get("content-length", "0")
    if not _LENGTH.fullmatch(length):
        raise BadParameter("content-length", f"expected a number of bytes in content-length, got {length[:20]!r}")
    return int(length)


class BodyType:
    """Refuses bodies that are no `application/json` (415), and on the paths of `uploads` bodies that are no multipart
    form.

    A browser asks the server first (CORS preflight) before it sends JSON for a page of another site. It asks nothing
    before it sends text or forms, so that a route which read JSON from text would be open to any page.

    The paths of `offers` take forms, and offers of a call: `application/sdp`. A browser asks before it sends these too.

    Requests that none of the `routes` takes pass: they get 404 or 405, whatever their body is.
    """

    def __init__(
        self, app: ASGIApp, uploads: Collection[str], routes: Sequence[BaseRoute], offers: Collection[str] = ()
    ) -> None:
        self._app = app
        self._types = {**dict.fromkeys(uploads, (_FORM,)), **dict.fromkeys(offers, (_SDP, _FORM))}
        self._routes = tuple(routes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] in _METHODS and self._has_route(scope):
            headers = Headers(scope=scope)
            wanted = self._types.get(scope["path"], (_JSON,))
            given = headers.get("content-type", "").partition(";")[0].strip().lower()
            has_body = headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
            if given not in wanted and (has_body or given):
                got = f"got {given[:80]!r}" if given else "got none"
                answer = refusal(
                    415, "unsupported_media_type", f"expected the content type {' or '.join(wanted)}, {got}"
                )
                await answer(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _has_route(self, scope: Scope) -> bool:
        return any(route.matches(scope)[0] is Match.FULL for route in self._routes)


class BodyLimit:
    """Bounds the bodies that requests hold in memory. Raises TooLarge or ResourceExhausted where the application reads.

    One body has at most `max_bytes`. A body whose header states a larger length is refused before any of it is read. A
    body without a stated length is refused when the bytes read exceed the limit. All requests together hold at most
    `total_bytes`, and those of one caller half of it, from their first byte to the end of their response.
    """

    def __init__(self, app: ASGIApp, max_bytes: int, total_bytes: int, count: SharedCount | None = None) -> None:
        """`count`: the bytes of several processes, for which `total_bytes` holds together. Each process counts those of
        one caller for itself: a caller has an equal share of the half in each, which has room for one body."""
        self._count = count or SharedCounts.alone()[BODY_BYTES]
        self._owner_bytes = total_bytes // 2
        if self._count.processes > 1:
            self._owner_bytes = max(max_bytes, self._owner_bytes // self._count.processes)
        self._app = app
        self._max_bytes = max_bytes
        self._total_bytes = total_bytes
        self._held: Counter[tuple[str, str]] = Counter()
        """The bytes that the requests of each caller hold, by tenant and key."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        read_bytes = 0
        owner = ("", "")

        async def bounded_receive() -> Message:
            nonlocal read_bytes, owner
            if stated_bytes(Headers(scope=scope)) > self._max_bytes:
                raise TooLarge("body", f"expected a body of at most {self._max_bytes} bytes")
            message = await receive()
            size = len(message.get("body", b""))
            if read_bytes + size > self._max_bytes:
                raise TooLarge("body", f"expected a body of at most {self._max_bytes} bytes")
            owner = owner if read_bytes else _owner(scope)
            self._hold(owner, size)
            read_bytes += size
            return message

        try:
            await self._app(scope, bounded_receive, send)
        finally:
            self._count.give_back(read_bytes)
            self._held[owner] -= read_bytes
            if not self._held[owner]:
                del self._held[owner]

    def _hold(self, owner: tuple[str, str], size: int) -> None:
        of_owner = self._held[owner] + size
        if of_owner > self._owner_bytes or not self._count.take(size, limit=self._total_bytes):
            HTTP_REFUSED.labels("bodies").inc()
            raise ResourceExhausted("the server holds as many bytes of requests as it may", retry_after_s=1.0)
        self._held[owner] = of_owner


def _owner(scope: Scope) -> tuple[str, str]:
    """The tenant and the key of the caller, whom the route has found before it reads."""
    identified: Identified | None = scope.get("state", {}).get("identified")
    return (identified.caller.tenant, identified.caller.key_id) if identified else ("", "")
