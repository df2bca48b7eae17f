"""The small trained checkpoint and the sample voices of the repository.

Both lie beside the code in a checkout. An installed package has neither: 32 MB of weights are no package data.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[4]
"""The checkout's folder, if this code lies in one."""

CHECKPOINT = Path("models", "chroma-nano")
SAMPLES = Path("samples")

_VOICE_FOLDER = "voices/"


@dataclass(frozen=True)
class SampleVoice:
    """A recording to enrol. `consent` says where it is from."""

    voice_id: str
    recording: Path
    transcript: str
    consent: str


def trained_checkpoint(root: Path | None = None) -> Path | None:
    """The folder of the small trained checkpoint; None outside a checkout."""
    folder = (root or ROOT) / CHECKPOINT
    return folder if (folder / "config.json").is_file() else None


def sample_voices(root: Path | None = None) -> list[SampleVoice]:
    """The recordings in `samples/voices`, as `samples/audio.json` describes them; none outside a checkout."""
    samples = (root or ROOT) / SAMPLES
    described = samples / "audio.json"
    if not described.is_file():
        return []
    entries = json.loads(described.read_text(encoding="utf-8"))
    return [
        SampleVoice(Path(name).stem, samples / name, entry["transcript"], entry["source"])
        for name, entry in entries.items()
        if name.startswith(_VOICE_FOLDER)
    ]
