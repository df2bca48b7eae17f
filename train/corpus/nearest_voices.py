"""Find the nearest reply voice of each asking voice, and write train/corpus/nearest_voices.toml.

Run `python -m train.corpus.nearest_voices`. The speech model learns from this file to answer the prompt of
an unknown voice in the nearest reply voice. The measure is Resemblyzer's cosine between the means of the prompts that
each voice says. Pitch and mean spectrum alone choose another voice for some speakers, because they show neither accent
nor manner. A voice that is almost equally near to two reply voices is not in the file.

The command needs what `python -m train.evaluation` needs, and the corpus of
`python -m train.corpus.synthesis --part replies`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.progress import track

from chroma_voice.eval.recognition.transcription import load
from chroma_voice.eval.speakers.likeness import Voices, direction
from chroma_voice.eval.speakers.voice_print import load_voice_print
from train.corpus.clip_index import Clip, read_manifest
from train.corpus.voices import NEAREST_FILE, REPLY_VOICES
from train.optim.training_loop import ROOT

MIN_MARGIN = 0.03
"""Smallest difference of the two largest cosines, for a voice that is in the file."""

_HEAD = """\
# The asking voices under their nearest reply voice. Written by python -m train.corpus.nearest_voices.
"""


def nearest(voices: Voices, replying: Voices) -> dict[str, list[str]]:
    """For each name in `replying`, the `voices` to which it is nearest by at least `MIN_MARGIN`."""
    by_reply: dict[str, list[str]] = {name: [] for name in replying}
    for voice, vector in sorted(voices.items()):
        second, first = sorted((float(vector @ other), name) for name, other in replying.items())[-2:]
        if first[0] - second[0] >= MIN_MARGIN:
            by_reply[first[1]].append(voice)
    return by_reply


def _listed(reply: str, voices: Iterable[str]) -> str:
    return "\n".join((f"{reply} = [", *(f'  "{voice}",' for voice in voices), "]\n"))


def main(root: Annotated[Path, typer.Option(help="Working folder, with the corpus in audio/.")] = ROOT) -> None:
    """Write train/corpus/nearest_voices.toml again."""
    torch.set_num_threads(1)
    encoder = load_voice_print()
    prompts: defaultdict[str, list[Clip]] = defaultdict(list)
    for clip in read_manifest(root / "audio" / "replies.jsonl"):
        if clip.role == "prompt" and not clip.held_out:
            prompts[clip.voice].append(clip)
    vectors = {
        voice: direction(encoder(load(root / "audio" / clip.path)) for clip in clips)
        for voice, clips in track(prompts.items(), "voices")
    }
    replying = {voice: vectors.pop(voice) for voice in REPLY_VOICES}
    found = nearest(vectors, replying)
    NEAREST_FILE.write_text("\n".join((_HEAD, *(_listed(*one) for one in found.items()))), encoding="utf-8")
    for reply, voices in found.items():
        typer.echo(f"{reply}: {len(voices)} voices")
    typer.echo(f"equally near to two: {len(vectors) - sum(map(len, found.values()))} voices")


if __name__ == "__main__":
    typer.run(main)
