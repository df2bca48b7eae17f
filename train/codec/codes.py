"""Stage `codes`: fit the codec's quantizer and write the codes of every clip.

Run `python -m train.codec.codes`. It writes `quantizer.safetensors` and `codes.safetensors`. The second holds int16
[T, 8] under each clip's path. It also holds, under `PATH@960`, the codes of the same clip after 40 ms of silence:
the frames begin elsewhere, so these codes differ although the sound is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
import soundfile
import torch
import typer
from rich.console import Console
from rich.progress import track
from safetensors.torch import load_file, save_file
from torch import Tensor

from services.common.wire.audio import SAMPLE_RATE_HZ
from train.codec.crops import CodedClip, Pcm16, whole_frames
from train.codec.mel import FramePatches
from train.codec.patch_quantizer import PatchQuantizer
from train.corpus.clip_index import Clip, read_manifest
from train.optim.training_loop import ROOT, seed_everything
from train.pack.config import nano_config

LEADS = (0, 960)
"""Numbers of samples of silence before a clip. Each gives one set of codes."""


def code_key(clip: Clip, lead: int) -> str:
    """The key of the clip's codes in `codes.safetensors`."""
    return f"{clip.path}@{lead}" if lead else clip.path


def read_pcm(audio: Path, clip: Clip) -> Pcm16:
    """A clip's samples [S]. Raises `ValueError` unless they are mono at 24 kHz."""
    pcm, rate = soundfile.read(audio / clip.path, dtype="int16")
    if rate != SAMPLE_RATE_HZ or pcm.ndim != 1:
        raise ValueError(f"{clip.path}: expected mono at {SAMPLE_RATE_HZ} Hz, got {pcm.ndim} axes at {rate} Hz")
    return pcm.astype(np.int16, copy=False)


def load_quantizer(root: Path, device: str = "cpu") -> PatchQuantizer:
    """The quantizer of this stage. Raises `FileNotFoundError` when the stage has not run."""
    return PatchQuantizer.from_tensors(load_file(_made(root / "quantizer.safetensors")), device)


def load_coded_clips(root: Path, wanted: Callable[[Clip], bool]) -> list[CodedClip]:
    """The wanted clips that are not held out, each with every lead of `LEADS`."""
    codes = load_file(_made(root / "codes.safetensors"))
    coded: list[CodedClip] = []
    for clip in read_manifest(root / "audio" / "replies.jsonl"):
        if clip.held_out or not wanted(clip):
            continue
        pcm = read_pcm(root / "audio", clip)
        coded += [CodedClip(whole_frames(pcm, lead=lead), codes[code_key(clip, lead)].long()) for lead in LEADS]
    return coded


def patches_of(audio: Path, clips: Iterable[Clip]) -> Iterator[tuple[Clip, int, Tensor]]:
    """Each clip with each lead, and its patches [T, 320]."""
    measure = FramePatches()
    for clip in clips:
        pcm = read_pcm(audio, clip)
        for lead in LEADS:
            wave = torch.from_numpy(whole_frames(pcm, lead=lead)).float() / 32768.0
            yield clip, lead, measure(wave[None])[0]


def _balanced(own: Tensor, other: Tensor) -> Tensor:
    """The patches of the reply voices, and at most as many of the other voices: the replies need most of the codes."""
    return torch.cat([own, other[torch.randperm(len(other))[: len(own)]]])


def _made(path: Path) -> Path:
    if not path.exists():
        raise FileNotFoundError(f"{path}: not there; run python -m train.codec.codes")
    return path


def main(
    root: Annotated[Path, typer.Option(help="Working folder.")] = ROOT,
    seed: Annotated[int, typer.Option(help="Seed of k-means.")] = 0,
    threads: Annotated[int, typer.Option(help="CPU threads.")] = 1,
) -> None:
    """Fit the quantizer to the replies and write the codes of every clip."""
    torch.set_num_threads(threads)
    seed_everything(seed)
    console = Console(width=120)
    config = nano_config()
    codec, codebooks = config["codec_config"], config["audio_num_codebooks"]
    clips = read_manifest(root / "audio" / "replies.jsonl")
    patches = {
        (clip.path, lead): (clip, rows)
        for clip, lead, rows in patches_of(root / "audio", track(clips, "mel patches", console=console))
    }
    replying = {clip.voice for clip in clips if clip.role == "reply"}
    own = torch.cat([rows for clip, rows in patches.values() if clip.voice in replying])
    other = [rows for clip, rows in patches.values() if clip.voice not in replying and not clip.held_out]
    seen = _balanced(own, torch.cat(other)) if other else own
    console.print(f"{len(clips)} clips, {len(seen)} frames to fit; k-means")
    quantizer = PatchQuantizer.fit(
        seen, codebooks=codebooks, codebook_size=codec["codebook_size"], width=codec["codebook_dim"]
    )
    save_file(quantizer.tensors(), root / "quantizer.safetensors")
    codes = {}
    for (_, lead), (clip, rows) in patches.items():
        codes[code_key(clip, lead)] = quantizer.encode(quantizer.components(rows)).to(torch.int16)
    unfinished = root / "codes.unfinished"
    save_file(codes, unfinished)
    unfinished.replace(root / "codes.safetensors")

    all_codes = torch.cat(list(codes.values())).long()
    all_rows = torch.cat([rows for _, rows in patches.values()])
    sample = torch.randperm(len(all_codes))[:20_000]
    spread = (all_rows[sample] - quantizer.mean).abs().mean()
    for used in range(1, codebooks):
        error = (quantizer.reconstruct(all_codes[sample], codebooks=used) - all_rows[sample]).abs().mean()
        console.print(f"{used} acoustic codebooks: mean error {error:.4f} log10-mel (of the mean patch {spread:.4f})")
    used_codes = [int(torch.unique(all_codes[:, book]).numel()) for book in range(codebooks)]
    console.print(f"codes in use by codebook: {used_codes}; end code given {int((all_codes[:, 0] == 0).sum())} times")


if __name__ == "__main__":
    typer.run(main)
