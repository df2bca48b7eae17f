"""All that an evaluation gave, and the same as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from chroma_voice import __version__
from chroma_voice.bench.report.results import machine
from chroma_voice.eval.records import ReplyRecord
from chroma_voice.eval.references import References
from chroma_voice.eval.summary import Summary


@dataclass(frozen=True)
class Results:
    """What an evaluation gives. `broken` says in one line why it broke off; empty: it did not."""

    target: str
    pairs: str
    """Name of the set of pairs."""
    started_at: float
    """Unix time."""
    settings: Mapping[str, object]
    replies: Sequence[ReplyRecord]
    references: References
    summary: Summary
    broken: str = ""

    @property
    def started(self) -> str:
        """The start as people read it."""
        return datetime.fromtimestamp(self.started_at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON has it."""
        return {
            "version": __version__,
            "target": self.target,
            "pairs": self.pairs,
            "started": datetime.fromtimestamp(self.started_at, UTC).isoformat(timespec="seconds"),
            "machine": machine(),
            "settings": dict(self.settings),
            "broken": self.broken,
            "summary": self.summary.to_dict(),
            "references": [reference.to_dict() for reference in self.references.found],
            "replies": [record.to_dict() for record in self.replies],
        }

    def to_json(self) -> str:
        """Return everything as text."""
        return json.dumps(self.to_dict(), ensure_ascii=False)
