"""All that a run gave, and the same as JSON."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from chroma_voice import __version__
from chroma_voice.bench.capacity import Capacity
from chroma_voice.bench.run import Measured
from chroma_voice.bench.summary import Summary


@dataclass(frozen=True)
class Results:
    """What a run gives. `notes` are warnings about the load generator itself."""

    target: str
    settings: Mapping[str, object]
    measured: Measured
    summary: Summary
    notes: Sequence[str]
    capacity: Capacity | None
    warm_up_s: float

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON has it. Metrics of the server are summed over their labels."""
        measured = self.measured
        return {
            "version": __version__,
            "target": self.target,
            "started": datetime.fromtimestamp(measured.started_at, UTC).isoformat(timespec="seconds"),
            "machine": machine(),
            "settings": dict(self.settings),
            "broken": measured.broken,
            "notes": list(self.notes),
            "summary": self.summary.to_dict(),
            "capacity": None if self.capacity is None else self.capacity.to_dict(),
            "turns": [turn.to_dict() for turn in measured.turns],
            "health": [asdict(sample) for sample in measured.health],
            "server": {
                url: [{"at_s": scrape.at_s, "values": dict(scrape.values)} for scrape in scrapes]
                for url, scrapes in measured.scrapes.items()
            },
        }

    def to_json(self) -> str:
        """Return everything as text."""
        return json.dumps(self.to_dict(), ensure_ascii=False)


def machine() -> str:
    """Return what the load generator ran on."""
    return f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"


def started(measured: Measured) -> str:
    """Return the start of a run as people read it."""
    return datetime.fromtimestamp(measured.started_at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
