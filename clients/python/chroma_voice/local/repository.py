"""The small trained checkpoint and the sample voices of the repository.

Only a checkout has them. An installed package does not contain them: the weights alone have 32 MB.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[4]
"""Root of the checkout, if this code is part of one."""

CHECKPOINT = Path("models", "chroma-nano")
SAMPLES = Path("samples")

_VOICE_FOLDER = "voices/"


@dataclass(frozen=True)
class SampleVoice:
    """A recording to enrol. `consent` names its source."""

    voice_id: str
    recording: Path
    transcript: str
    consent: str


def trained_checkpoint(root: Path | None = None) -> Path | None:
    """Return the folder of the small trained checkpoint; None outside a checkout."""
    folder = (root or ROOT) / CHECKPOINT
    return folder if (folder / "config.json").is_file() else None


def sample_questions(root: Path | None = None) -> list[Path]:
    """Return the recorded questions of `samples`; none outside a checkout."""
    return sorted(((root or ROOT) / SAMPLES).glob("question_*.wav"))


def sample_voices(root: Path | None = None) -> list[SampleVoice]:
    """Return the recordings of `samples/voices`, as `samples/audio.json` describes them; none outside a checkout."""
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
