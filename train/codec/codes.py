"""Stage `codes`: fit the codec's quantizer and write the codes of every clip.

Run `python -m train.codec.codes`. It writes `quantizer.safetensors` and `codes.safetensors`. The second holds int16
[T, 8] under each clip's path. It also holds, under `PATH@960`, the codes of the same clip after 40 ms of silence:
the frames begin elsewhere, so these codes differ although the sound is the same. `PATH@afar` are the codes of the clip
in another room and by another microphone: a prompt as real ones come.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
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

from services.common.wire.audio import FRAME_SAMPLES, SAMPLE_RATE_HZ
from train.audio.augment import ENROLMENT, Augmenter
from train.audio.noises import Samples
from train.codec.crops import CodedClip, Pcm16, whole_frames, with_share
from train.codec.mel import FramePatches
from train.codec.patch_quantizer import PatchQuantizer
from train.corpus.clip_index import Clip, read_speech
from train.corpus.voices import REPLY_VOICES
from train.optim.training_loop import ROOT, seed_everything
from train.pack.config import nano_config

REPLY_VOICES_SHARE = 0.25
"""Share of the four reply voices among the frames that quantizer, decoder and encoder are fitted to. The speakers to
clone have the rest: they are many, but each says few sentences."""

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


def load_coded_clips(root: Path) -> list[CodedClip]:
    """The clips that are not held out, each with every lead of `LEADS`, weighted by `REPLY_VOICES_SHARE`."""
    codes = load_file(_made(root / "codes.safetensors"))
    own, others = list[CodedClip](), list[CodedClip]()
    for clip in read_speech(root / "audio"):
        if clip.held_out or clip.path not in codes:
            continue
        sounds = _with_leads(read_pcm(root / "audio", clip))
        coded = (CodedClip(sound, codes[code_key(clip, lead)].long()) for lead, sound in sounds.items())
        (own if clip.voice in REPLY_VOICES else others).extend(coded)
    return with_share(own, others, REPLY_VOICES_SHARE)


def _with_leads(pcm: Pcm16) -> dict[int, Pcm16]:
    """The clip in whole frames with each lead of `LEADS`: views of one array, because a corpus has hours of sound."""
    longest = max(LEADS)
    padded = np.pad(pcm, (longest, FRAME_SAMPLES))
    return {lead: padded[longest - lead :][: len(whole_frames(pcm, lead=lead))] for lead in LEADS}


def patches_of(audio: Path, clips: Iterable[Clip]) -> Iterator[tuple[Clip, int, Tensor]]:
    """Each clip with each lead, and its patches [T, 320]."""
    measure = FramePatches()
    for clip in clips:
        pcm = read_pcm(audio, clip)
        for lead in LEADS:
            wave = torch.from_numpy(whole_frames(pcm, lead=lead)).float() / 32768.0
            yield clip, lead, measure(wave[None])[0]


def afar_codes(
    audio: Path, clips: Sequence[Clip], quantizer: PatchQuantizer, dice: np.random.Generator
) -> dict[str, Tensor]:
    """The codes of each clip after an augmentation for enrolment, int16 [T, 8] under `PATH@afar`."""

    def sound(clip: Clip) -> Samples:
        return read_pcm(audio, clip).astype(np.float32) / 32768.0

    augment = Augmenter(
        dice, lambda: sound(clips[int(dice.integers(len(clips)))]), ENROLMENT, sample_rate_hz=SAMPLE_RATE_HZ
    )
    measure = FramePatches()
    codes = {}
    for clip in clips:
        changed = (augment(sound(clip)) * 32767.0).astype(np.int16)
        wave = torch.from_numpy(whole_frames(changed)).float() / 32768.0
        codes[f"{clip.path}@afar"] = quantizer.encode(quantizer.components(measure(wave[None])[0])).to(torch.int16)
    return codes


def _balanced(own: Tensor, others: Tensor) -> Tensor:
    """Patches in which those of the reply voices have at least `REPLY_VOICES_SHARE`."""
    most = round(len(own) * (1.0 / REPLY_VOICES_SHARE - 1.0))
    return torch.cat([own, others[torch.randperm(len(others))[:most]]])


def _made(path: Path) -> Path:
    if not path.exists():
        raise FileNotFoundError(f"{path}: not there; run python -m train.codec.codes")
    return path


def main(
    root: Annotated[Path, typer.Option(help="Working folder.")] = ROOT,
    seed: Annotated[int, typer.Option(help="Seed of k-means.")] = 0,
    threads: Annotated[int, typer.Option(help="CPU threads.")] = 1,
) -> None:
    """Fit the quantizer to all who speak and write the codes of every clip."""
    torch.set_num_threads(threads)
    seed_everything(seed)
    console = Console(width=120)
    config = nano_config()
    codec, codebooks = config["codec_config"], config["audio_num_codebooks"]
    clips = read_speech(root / "audio")
    patches = {
        (clip.path, lead): (clip, rows)
        for clip, lead, rows in patches_of(root / "audio", track(clips, "mel patches", console=console))
    }
    own = [rows for clip, rows in patches.values() if clip.voice in REPLY_VOICES]
    others = [rows for clip, rows in patches.values() if clip.voice not in REPLY_VOICES and not clip.held_out]
    seen = _balanced(torch.cat(own), torch.cat(others)) if others else torch.cat(own)
    console.print(f"{len(clips)} clips, {len(seen)} frames to fit; k-means")
    quantizer = PatchQuantizer.fit(
        seen, codebooks=codebooks, codebook_size=codec["codebook_size"], width=codec["codebook_dim"]
    )
    save_file(quantizer.tensors(), root / "quantizer.safetensors")
    codes = {}
    for (_, lead), (clip, rows) in patches.items():
        codes[code_key(clip, lead)] = quantizer.encode(quantizer.components(rows)).to(torch.int16)
    all_codes = torch.cat(list(codes.values())).long()
    codes |= afar_codes(root / "audio", clips, quantizer, np.random.default_rng(seed))
    unfinished = root / "codes.unfinished"
    save_file(codes, unfinished)
    unfinished.replace(root / "codes.safetensors")

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
