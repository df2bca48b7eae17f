"""What an audit log has. A gateway queues the record of how something ended, and writes it after its answer."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any


def audit_lines(path: Path) -> list[dict[str, Any]]:
    """The whole lines of the log."""
    written, _, _ = path.read_text().rpartition("\n")
    return [json.loads(line) for line in written.splitlines()]


def audited(path: Path) -> list[tuple[str, str]]:
    """Action and outcome of each line."""
    return [(line["action"], line["outcome"]) for line in audit_lines(path)]


async def until_audited(path: Path, action: str, outcome: str) -> list[tuple[str, str]]:
    """Wait until the log has such a line. Returns action and outcome of all lines."""
    async with asyncio.timeout(60):
        while (action, outcome) not in (lines := audited(path)):  # noqa: ASYNC110  # the log sets no event of ours
            await asyncio.sleep(0.01)
    return lines
