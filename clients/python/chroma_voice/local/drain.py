"""The turns that still run while a gateway drains."""

from __future__ import annotations

import re
import urllib.request

_CONVERSATIONS = re.compile(r"^chroma_voice_conversations (\S+)$", re.MULTILINE)
_TIMEOUT_S = 2.0


def count_conversations(metrics: str) -> int | None:
    """Return how many conversations the gateway holds whose metrics page is at `metrics` (host:port); None if it does
    not say. While it drains, only conversations with a running turn are left.
    """
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://{metrics}/metrics", timeout=_TIMEOUT_S) as page:
            found = _CONVERSATIONS.search(page.read().decode(errors="replace"))
    except (OSError, ValueError):
        return None
    return round(float(found[1])) if found else None


def describe(conversations: int, drain_s: float) -> str:
    """Return what a person who stops the system is told."""
    what = "1 running turn" if conversations == 1 else f"{conversations} running turns"
    return f"waiting for {what}, at most {drain_s:g} s (Ctrl-C stops at once)"
