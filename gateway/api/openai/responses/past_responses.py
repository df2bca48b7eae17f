"""Earlier responses of /v1/responses, kept for an hour: their texts, and the conversation that led to each.

A response is kept as what was new in it and the id of the one before it. So a conversation is read back link by link,
and several may branch off from one response.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gateway.api.openai.chat.past_turns import Result
from gateway.store.records import ToolCall
from gateway.store.replies import Replies
from services.common.errors import NotFound

MAX_KEPT_CHARS = 20_000
"""Most characters of what was new in a response that is kept, as JSON."""
_MAX_LINKS = 64
"""Responses that are read back. The model's memory ends before."""


@dataclass(frozen=True)
class Spoken:
    """A text of a conversation and who said it: system, user or assistant."""

    role: str
    text: str


Entry = Spoken | ToolCall | Result
"""An entry of a conversation without speech: a text, a call of a tool, or its result."""


class PastResponses:
    """The responses of one tenant."""

    def __init__(self, replies: Replies, tenant: str) -> None:
        self._replies = replies
        self._tenant = tenant

    async def keep(
        self, response_id: str, items: Mapping[str, Entry], new: Sequence[Entry] | None, previous: str | None
    ) -> None:
        """Keep the items of a response by their ids, and the response if its input is `new` text that is not too long.
        None: the input has speech, which is not kept."""
        for item_id, entry in items.items():
            await self._replies.keep(self._tenant, item_id, json.dumps(_as_list(entry)))
        if new is None:
            return
        link = json.dumps({"previous": previous, "entries": [_as_list(entry) for entry in (*new, *items.values())]})
        if len(link) <= MAX_KEPT_CHARS:
            await self._replies.keep(self._tenant, response_id, link)

    async def item(self, item_id: str) -> Entry:
        """An item of an earlier response. Raises NotFound, Unavailable."""
        return _from_list(json.loads(await self._text("item", item_id, ("msg_", "fc_"))))

    async def conversation(self, response_id: str) -> list[Entry]:
        """What was said up to this response, and in it. Raises NotFound, Unavailable."""
        links: list[list[Entry]] = []
        next_id: str | None = response_id
        while next_id is not None and len(links) < _MAX_LINKS:
            try:
                link = json.loads(await self._text("response", next_id, ("resp_",)))
            except NotFound:
                if links:
                    break  # its hour is over: the conversation goes on without it
                raise
            links.append([_from_list(entry) for entry in link["entries"]])
            next_id = link["previous"]
        return [entry for link in reversed(links) for entry in link]

    async def _text(self, kind: str, name: str, prefixes: tuple[str, ...]) -> str:
        try:
            if name.startswith(prefixes):
                return await self._replies.text(self._tenant, name)
        except NotFound:
            pass
        raise NotFound(f"no {kind} {name[:80]!r}: it never existed, it was not stored, or its hour is over")


def _as_list(entry: Entry) -> list[str]:
    if isinstance(entry, Spoken):
        return [entry.role, entry.text]
    if isinstance(entry, Result):
        return ["result", entry.call_id, entry.output]
    return ["call", entry.call_id, entry.name, entry.arguments]


def _from_list(fields: list[str]) -> Entry:
    kind, *rest = fields
    return Result(*rest) if kind == "result" else ToolCall(*rest) if kind == "call" else Spoken(kind, *rest)
