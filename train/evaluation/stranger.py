"""A voice that no model here was trained on: the LibriVox reader of the samples."""

from __future__ import annotations

import json
from pathlib import Path

from chroma_voice.local.repository import SampleVoice

_RECORDING = "voice_librivox_7s.wav"
_VOICE_ID = "stranger"


def stranger_of(checkout: Path) -> SampleVoice:
    """The stranger's prompt in a checkout's samples, as `samples/audio.json` describes it."""
    samples = checkout / "samples"
    described = json.loads((samples / "audio.json").read_text(encoding="utf-8"))[_RECORDING]
    return SampleVoice(_VOICE_ID, samples / _RECORDING, described["transcript"], described["source"])
