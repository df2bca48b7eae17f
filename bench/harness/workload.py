"""The benchmarks' workload: seeded sessions with a voice, a history and a question, and a cached checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from checkpoints.presets import Preset
from checkpoints.writer import DType, write_checkpoint
from services.common.wire.audio import SAMPLE_RATE_HZ
from services.runtime.checkpoint.checkpoint import Checkpoint
from services.runtime.checkpoint.config import ChromaConfig

CACHE = Path("build/bench")

Clock = Callable[[], float]
"""Returns seconds: `time.perf_counter`, or `time.process_time` on a machine with other work."""


@dataclass(frozen=True)
class Session:
    """One conversation. Texts are token ids."""

    recording: Tensor
    """The voice: float32 [S] at 24 kHz."""
    transcript: list[int]
    history: list[int]
    """System prompt and earlier turns, up to the commit of the first turn."""
    question: list[int]
    """The ids of the second turn after the first turn's reply."""


def cached_checkpoint(preset: Preset, dtype: DType = "float32") -> Checkpoint:
    """The preset's checkpoint with random weights that never end a turn, written once into build/bench."""
    folder = CACHE / f"{preset}-{dtype}"
    if not (folder / "config.json").exists():
        write_checkpoint(preset, folder, dtype=dtype, endless=True)
    return Checkpoint.open(folder)


def make_session(config: ChromaConfig, seed: int, *, voice_s: float, history_ids: int) -> Session:
    """A random session: ids of plain text, and `voice_s` seconds of noise as the voice's recording."""
    dice = torch.Generator().manual_seed(seed)
    plain_ids = min(config.tokens.audio, config.tokens.im_end, config.tokens.text_start)

    def ids(count: int) -> list[int]:
        return torch.randint(0, plain_ids, (count,), generator=dice).tolist()

    return Session(
        recording=torch.randn(int(voice_s * SAMPLE_RATE_HZ), generator=dice) * 0.1,
        transcript=ids(max(1, int(voice_s * 3))),
        history=ids(history_ids),
        question=ids(16),
    )
