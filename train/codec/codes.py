"""Stage `codes`: fit the codec's quantizer and write the codes of every clip and of its copies at another pitch.

Run `python -m train.codec.codes`, or with `--resume` to keep the quantizer of `codec.safetensors`, so that codec and
speech model can be trained further. It writes four files:

- `quantizer.safetensors`.
- `codes.safetensors`: int16 [T, 8] under each key (`train.corpus.copies.Spoken`), and under `KEY@VARIANT`. `960` is
  the sound after 40 ms of silence: the frames begin elsewhere, so the codes differ although the sound is the same.
  `afar` is in another room and by another microphone, as real prompts come. `blurred` has an error like that of the
  codec's encoder.
- `performances.safetensors`: how the reply voices and their copies say each sentence (`Coder.performance`).
- `voices.safetensors`: the speaker embedding and the mean of everybody who speaks or seems to (`Coder.voices`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from rich.console import Console
from rich.progress import track
from safetensors.torch import load_file, save_file
from torch import Tensor

from chroma_voice.eval.speakers.voice_print import load_voice_print
from services.common.wire.audio import FRAME_SAMPLES
from train.codec.artefact import ARTEFACT, new_codec
from train.codec.coder import LEADS, Coder, code_key, patches_at, read_pcm
from train.codec.crops import CodedClip, Pcm16, whole_frames, with_share
from train.codec.mel import FramePatches
from train.codec.mimi import codebooks, load_codec
from train.codec.patch_quantizer import PatchQuantizer
from train.corpus.clip_index import Clip, read_speech
from train.corpus.copies import Spoken, reply_voice_of, with_copies
from train.corpus.voices import REPLY_VOICES
from train.optim.training_loop import ROOT, load_artefact, seed_everything
from train.pack.config import nano_config

REPLY_VOICES_SHARE = 0.25
"""Share of the four reply voices among the frames that quantizer, decoder and encoder are fitted to. The speakers to
clone have the rest: they are many, but each says few sentences."""

_RECOVERED_FROM = 500  # clips
_BABBLE = 400  # clips


def load_quantizer(root: Path, device: str = "cpu") -> PatchQuantizer:
    """The quantizer of this stage. Raises `FileNotFoundError` when the stage has not run."""
    return PatchQuantizer.from_tensors(load_file(made(root / "quantizer.safetensors")), device)


def load_coded_clips(root: Path) -> list[CodedClip]:
    """Clips that are not held out and their copies, with every lead of `LEADS`, weighted by `REPLY_VOICES_SHARE`."""
    codes = load_file(made(root / "codes.safetensors"))
    own, others = list[CodedClip](), list[CodedClip]()
    for spoken in with_copies(read_speech(root / "audio")):
        if spoken.clip.held_out or spoken.key not in codes:
            continue
        sounds = _with_leads(read_pcm(root / "audio", spoken))
        coded = (CodedClip(sound, codes[code_key(spoken, lead)].long()) for lead, sound in sounds.items())
        (own if spoken.voice in REPLY_VOICES else others).extend(coded)
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
        pcm = read_pcm(audio, Spoken(clip))
        for lead in LEADS:
            yield clip, lead, patches_at(measure, pcm, lead)


def recovered_quantizer(root: Path, clips: Sequence[Clip]) -> PatchQuantizer:
    """The quantizer of `codec.safetensors`, from its codes of some of the clips.

    Raises `FileNotFoundError` without this artefact.
    """
    model = new_codec(nano_config()["codec_config"])
    load_codec(model, load_artefact(root / ARTEFACT))
    measure, patches, codes = FramePatches(), list[Tensor](), list[Tensor]()
    for number in torch.randperm(len(clips))[:_RECOVERED_FROM].tolist():
        pcm = whole_frames(read_pcm(root / "audio", Spoken(clips[number])))
        wave = torch.from_numpy(pcm).float()[None, None] / 32768.0
        with torch.inference_mode():
            coded = model.encode(wave).audio_codes
        assert coded is not None
        codes.append(coded[0].T)
        patches.append(measure(wave[0])[0])
    tables = torch.stack([codebook.embed for codebook in codebooks(model)]).detach()
    return PatchQuantizer.recovered(tables, torch.cat(codes), torch.cat(patches))


def fitted_quantizer(root: Path, clips: Sequence[Clip], console: Console) -> PatchQuantizer:
    """A new quantizer for everybody who speaks."""
    config = nano_config()
    codec = config["codec_config"]
    own, others = list[Tensor](), list[Tensor]()
    for clip, _, rows in patches_of(root / "audio", track(clips, "mel patches", console=console)):
        if not clip.held_out:
            (own if clip.voice in REPLY_VOICES else others).append(rows)
    seen = _balanced(torch.cat(own), torch.cat(others)) if others else torch.cat(own)
    console.print(f"{len(clips)} clips, {len(seen)} frames to fit; k-means")
    return PatchQuantizer.fit(
        seen, codebooks=config["audio_num_codebooks"], codebook_size=codec["codebook_size"], width=codec["codebook_dim"]
    )


def _balanced(own: Tensor, others: Tensor) -> Tensor:
    """Patches in which those of the reply voices have at least `REPLY_VOICES_SHARE`."""
    most = round(len(own) * (1.0 / REPLY_VOICES_SHARE - 1.0))
    return torch.cat([own, others[torch.randperm(len(others))[:most]]])


def made(path: Path) -> Path:
    """The path of a file of this stage. Raises `FileNotFoundError` when the stage has not run."""
    if not path.exists():
        raise FileNotFoundError(f"{path}: not there; run python -m train.codec.codes")
    return path


def main(
    root: Annotated[Path, typer.Option(help="Working folder.")] = ROOT,
    seed: Annotated[int, typer.Option(help="Seed of k-means.")] = 0,
    threads: Annotated[int, typer.Option(help="CPU threads.")] = 1,
    resume: Annotated[bool, typer.Option(help="Keep the quantizer of codec.safetensors.")] = False,
) -> None:
    """Fit the quantizer to all who speak and write the codes of every clip."""
    torch.set_num_threads(threads)
    seed_everything(seed)
    console = Console(width=120)
    clips = read_speech(root / "audio")
    quantizer = recovered_quantizer(root, clips) if resume else fitted_quantizer(root, clips, console)
    save_file(quantizer.tensors(), root / "quantizer.safetensors")
    others = [read_pcm(root / "audio", Spoken(clip)).astype(np.float32) / 32768.0 for clip in clips[:_BABBLE]]
    coder = Coder(quantizer, load_voice_print(), others, np.random.default_rng(seed))
    codes, performances = dict[str, Tensor](), dict[str, Tensor]()
    for spoken in track(list(with_copies(clips)), "codes", console=console):
        pcm = read_pcm(root / "audio", spoken)
        codes |= coder.variants(spoken, pcm)
        if reply_voice_of(spoken.voice):
            performances |= coder.performance(spoken, pcm, read_pcm(root / "audio", Spoken(spoken.clip)))
    save_file(performances, root / "performances.safetensors")
    save_file(coder.voices(), root / "voices.safetensors")
    unfinished = root / "codes.unfinished"
    save_file(codes, unfinished)
    unfinished.replace(root / "codes.safetensors")
    _report(root, quantizer, clips, codes, console)


def _report(
    root: Path, quantizer: PatchQuantizer, clips: Sequence[Clip], codes: Mapping[str, Tensor], console: Console
) -> None:
    """Print the quantizer's error on some clips and how many of the codes are in use."""
    some = [clips[number] for number in torch.randperm(len(clips))[:_RECOVERED_FROM].tolist()]
    rows = torch.cat([rows for _, _, rows in patches_of(root / "audio", some)])
    sample = quantizer.encode(quantizer.components(rows))
    spread = (rows - quantizer.mean).abs().mean()
    for used in range(1, len(quantizer.codebooks)):
        error = (quantizer.reconstruct(sample, codebooks=used) - rows).abs().mean()
        console.print(f"{used} acoustic codebooks: mean error {error:.4f} log10-mel (of the mean patch {spread:.4f})")
    used_codes = [len(torch.unique(torch.cat([one[:, book] for one in codes.values()]))) for book in range(8)]
    console.print(f"{len(codes)} sets of codes; codes in use by codebook: {used_codes}")


if __name__ == "__main__":
    typer.run(main)
