"""Find speakers to clone that are almost the same as another one, and write train/corpus/alike_speakers.toml.

Run `python -m train.corpus.alike_speakers`. Training leaves the speakers of this file out, so that the others are
distinct. The measure is Resemblyzer's cosine between the means of the clips that each speaker says. The command needs
what `python -m train.evaluation` needs, and at least two clips of every speaker from
`python -m train.corpus.synthesis --part speakers`: as few as the first minutes of that stage make.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.progress import track

from chroma_voice.eval.recognition.transcription import load
from chroma_voice.eval.speakers.likeness import Voices, direction
from chroma_voice.eval.speakers.voice_print import load_voice_print
from train.corpus.clip_index import Clip, read_manifest
from train.corpus.voices import ALIKE_FILE, VoiceEngines
from train.optim.training_loop import ROOT

MAX_LIKENESS = 0.95
"""Largest cosine of two speakers that are both trained on."""

_HEAD = """\
# Speakers that are left out, each under the speaker that is almost the same.
# Written by python -m train.corpus.alike_speakers.
"""


def alike(speakers: Voices, likeness: float = MAX_LIKENESS) -> dict[str, list[str]]:
    """The speakers to leave out, each under the nearest speaker that stays and has a cosine above `likeness`.

    A speaker is compared with the earlier ones of `speakers` that stay.
    """
    stay: list[str] = []
    left_out = defaultdict[str, list[str]](list)
    for name, vector in speakers.items():
        nearest = max(stay, key=lambda other: float(vector @ speakers[other]), default=None)
        if nearest is not None and float(vector @ speakers[nearest]) > likeness:
            left_out[nearest].append(name)
        else:
            stay.append(name)
    return dict(left_out)


def _listed(speaker: str, others: Iterable[str]) -> str:
    return f"{speaker} = {json.dumps(list(others))}\n"


def _vectors(root: Path, names: Sequence[str]) -> Voices:
    encoder = load_voice_print()
    clips = defaultdict[str, list[Clip]](list)
    for clip in read_manifest(root / "audio" / "speakers.jsonl"):
        clips[clip.voice].append(clip)
    few = [name for name in names if len(clips[name]) < 2]
    if few:
        raise typer.BadParameter(f"expected two clips of every speaker, found fewer of {len(few)}, such as {few[0]}")
    return {
        name: direction(encoder(load(root / "audio" / clip.path)) for clip in clips[name])
        for name in track(names, "speakers")
    }


def main(root: Annotated[Path, typer.Option(help="Working folder, with the corpus in audio/.")] = ROOT) -> None:
    """Write train/corpus/alike_speakers.toml again."""
    torch.set_num_threads(1)
    names = [voice.name for voice in VoiceEngines(root).speakers(with_alike=True).trained]
    found = alike(_vectors(root, names))
    ALIKE_FILE.write_text(_HEAD + "".join(_listed(*one) for one in found.items()), encoding="utf-8")
    typer.echo(f"{len(names)} speakers, {sum(map(len, found.values()))} of them left out")


if __name__ == "__main__":
    typer.run(main)
