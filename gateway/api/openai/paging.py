"""Pages of lists: the query that asks for one, and the object that answers."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request

from gateway.api.errors import BadParameter


def page_of(request: Request, max_size: int, default_size: int) -> tuple[int, str]:
    """Return the query's `limit` and `after`. Raises BadParameter for a limit that is no number or out of range."""
    limit = request.query_params.get("limit", str(default_size))
    if not (limit.isascii() and limit.isdigit() and len(limit) < 10 and 1 <= int(limit) <= max_size):
        raise BadParameter("limit", f"expected a limit of 1 to {max_size}, got {limit[:20]!r}")
    return int(limit), request.query_params.get("after", "")


def list_object(data: list[dict[str, Any]], has_more: bool) -> dict[str, Any]:
    """Return a page as JSON. `data` has objects with an `id`."""
    ids = {"first_id": data[0]["id"], "last_id": data[-1]["id"]} if data else {"first_id": None, "last_id": None}
    return {"object": "list", "data": data, "has_more": has_more, **ids}
