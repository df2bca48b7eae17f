"""The seams between the segments of a long reply: the gap, the loudness on both sides, and clicks.

    python -m bench.quality.seam CHECKPOINT [--positions 400] [--seconds 60] [--plot seam.png]

The reply consists of random thoughts. With random weights the figures show only that a seam breaks nothing; with a
trained checkpoint they show the sound at a seam. A smaller number of positions gives earlier seams.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from reference.speech import speak
from services.codec.model.mimi import Mimi
from services.common.sampling import SamplingParams
from services.common.wire.audio import FRAME_RATE_HZ, FRAME_SAMPLES, SAMPLE_RATE_HZ
from services.runtime.checkpoint.checkpoint import Checkpoint
from services.runtime.checkpoint.config import ChromaConfig
from services.runtime.kvcache.paged_kv import PagedKV
from services.runtime.kvcache.pages import PAGE_SIZE
from services.speech_gen.messages import SpeechRequest
from services.speech_gen.model.generator import Generator, ThoughtInput
from services.speech_gen.model.text_breaks import TextBreaks
from services.speech_gen.model.voice import enroll
from services.speech_gen.model.weights import load_generator

WINDOW_S = 0.5
"""Length of the sound on each side for the comparison of loudness."""

QUIET_WINDOW = SAMPLE_RATE_HZ // 100
QUIET_DB = -40.0
"""10 ms of sound are a gap when they are quieter than the second around the seam by this much."""


@dataclass(frozen=True)
class Seam:
    """One seam. Loudness is RMS in dB of full scale; `gap_ms` is the length of the silence at the seam.

    `jump` is the step between the two samples at the seam, relative to the largest other step within 20 ms. A click has
    a value much larger than 1.
    """

    at_s: float
    before_db: float
    after_db: float
    gap_ms: int
    jump: float


def measure(pcm: np.ndarray, sample: int) -> Seam:
    """The seam between `pcm[sample - 1]` and `pcm[sample]`. `pcm` is float32 [S] at 24 kHz."""
    window = int(WINDOW_S * SAMPLE_RATE_HZ)
    before, after = pcm[max(0, sample - window) : sample], pcm[sample : sample + window]
    floor_db = _loudness_db(np.concatenate([before, after])) + QUIET_DB
    gap = _quiet_windows(before[::-1], floor_db) + _quiet_windows(after, floor_db)
    near = SAMPLE_RATE_HZ // 50
    steps = np.abs(np.diff(pcm[sample - near : sample + near]))
    usual = np.delete(steps, near - 1).max()
    return Seam(
        at_s=sample / SAMPLE_RATE_HZ,
        before_db=_loudness_db(before),
        after_db=_loudness_db(after),
        gap_ms=10 * gap,
        jump=float(steps[near - 1] / max(usual, 1e-9)),
    )


def speak_long(
    generator: Generator, mimi: Mimi, request: SpeechRequest, thoughts: Sequence[ThoughtInput]
) -> tuple[np.ndarray, list[int]]:
    """The sound of a long reply [S], and the first samples of its segments, without the first segment."""
    spoken = speak(generator, request, thoughts, TextBreaks(None))
    openings = [frame for frame, rows in enumerate(spoken.rows[1:]) if not rows[0].any()]
    voiced = np.array([frame.codes for frame in spoken.frames if frame.voiced])
    return mimi.decode(voiced), [FRAME_SAMPLES * frame for frame in openings[1:]]


def _loudness_db(pcm: np.ndarray) -> float:
    return float(10 * np.log10(np.mean(np.square(pcm, dtype=np.float64)) + 1e-12))


def _quiet_windows(pcm: np.ndarray, floor_db: float) -> int:
    """The number of quiet windows of 10 ms before the first loud one."""
    count = 0
    for start in range(0, len(pcm), QUIET_WINDOW):
        if _loudness_db(pcm[start : start + QUIET_WINDOW]) > floor_db:
            break
        count += 1
    return count


def _random_reply(
    generator: Generator, checkpoint: Checkpoint, mimi: Mimi, seconds: float
) -> tuple[SpeechRequest, list[ThoughtInput]]:
    dice = np.random.default_rng(0)
    vocab, width = generator.backbone.text_table.shape
    tokens = ChromaConfig.from_dict(checkpoint.config).tokens
    voice = dice.normal(scale=0.1, size=3 * SAMPLE_RATE_HZ).astype(np.float32)
    prompt = enroll(generator.backbone, tokens, mimi.encode(voice).astype(np.int64), [1, 2, 3])
    frames = int(seconds * FRAME_RATE_HZ)
    hidden = torch.from_numpy(dice.normal(size=(frames, width)).astype(np.float32)).to(generator.backbone.stack.dtype)
    thoughts = [ThoughtInput(int(dice.integers(vocab)), row) for row in hidden]
    return SpeechRequest(prompt, SamplingParams(seed=1), frames), thoughts


def main() -> None:
    """Generate a reply, decode it, measure its seams, print and plot them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--positions", type=int, default=400)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--plot", type=Path)
    arguments = parser.parse_args()
    checkpoint = Checkpoint.open(arguments.checkpoint)
    loaded, mimi = load_generator(checkpoint, slots=1), Mimi.load(checkpoint)
    kv = PagedKV(
        loaded.kv.config,
        slots=1,
        pages=-(-arguments.positions // PAGE_SIZE),
        dtype=loaded.backbone.stack.dtype,
        max_positions=arguments.positions,
    )
    generator = Generator(loaded.backbone, loaded.decoder, kv, eos=loaded.eos, im_end=loaded.im_end)
    pcm, samples = speak_long(generator, mimi, *_random_reply(generator, checkpoint, mimi, arguments.seconds))
    if not samples:
        print(f"the reply ended by EOS after {len(pcm) / SAMPLE_RATE_HZ:.1f} s, before any seam")
        return
    print("   at s   before dB   after dB   gap ms   jump")
    for seam in (measure(pcm, sample) for sample in samples):
        print(f"{seam.at_s:7.2f} {seam.before_db:11.1f} {seam.after_db:10.1f} {seam.gap_ms:8d} {seam.jump:6.2f}")
    if arguments.plot:
        _plot(pcm, samples, arguments.plot)


def _plot(pcm: np.ndarray, samples: Sequence[int], path: Path) -> None:
    import matplotlib.pyplot as plt

    window = int(WINDOW_S * SAMPLE_RATE_HZ)
    figure, panes = plt.subplots(len(samples), 1, figsize=(8, 2 * len(samples)), squeeze=False)
    for pane, sample in zip(panes[:, 0], samples, strict=True):
        part = pcm[sample - window : sample + window]
        pane.plot((np.arange(len(part)) - window) / SAMPLE_RATE_HZ * 1000, part, linewidth=0.5)
        pane.axvline(0, color="tab:red", linewidth=0.8)
        pane.set_ylabel(f"{sample / SAMPLE_RATE_HZ:.1f} s")
    panes[-1, 0].set_xlabel("ms from the seam")
    figure.savefig(path, dpi=120, bbox_inches="tight")


if __name__ == "__main__":
    main()
