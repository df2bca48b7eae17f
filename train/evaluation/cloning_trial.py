"""Trial of cloning during training, without the services: `python -m train.evaluation.cloning_trial`.

The speech model and the codec of the working folder say some replies as each of the speakers that are kept for trials
(`train/corpus/voices.py`), after their prompts. The table compares the replies with the speakers' recordings, and the
prompts after the codec alone, which is the most that the speech model can reach. These speakers are not those of
`train.evaluation.strangers`, so that who chooses a training by this trial does not choose it by the final measure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import numpy as np
import soxr
import torch
import typer
from numpy.typing import NDArray
from rich.progress import track
from rich.table import Table

from chroma_voice.eval.recognition.transcription import load
from chroma_voice.eval.speakers.likeness import Encoder, Voices, direction, likeness
from chroma_voice.eval.speakers.voice_print import SAMPLE_RATE_HZ as HEARD_RATE_HZ
from chroma_voice.eval.speakers.voice_print import load_voice_print
from services.codec.model.mimi import Mimi
from services.common.sampling import SamplingParams
from services.common.wire.audio import SAMPLE_RATE_HZ
from services.runtime.checkpoint.config import ChromaConfig
from services.speech_gen.messages import EndReason
from services.speech_gen.model.weights import load_generator
from train.corpus.clip_index import read_speech
from train.corpus.vocabulary import nano_tokenizer
from train.evaluation.console import console
from train.evaluation.plan import spread_over
from train.optim.training_loop import ROOT
from train.pack.assemble import TEMPERATURE, TOP_K
from train.speech.free_running import SLOTS, GeneratedReply, generate, plan_replies, scratch_checkpoint
from train.speech.recordings import load_recordings


@dataclass(frozen=True)
class ClonedSound:
    """A sound [S] at 24 kHz that should sound like `speaker`; `ended` is False for a reply without an end."""

    speaker: str
    samples: NDArray[np.float32]
    ended: bool = True


@dataclass(frozen=True)
class TrialFigures:
    """Means over the sounds of all speakers: likeness to the own speaker, to the most similar other one, and shares."""

    sounds: int
    ended: float
    own: float
    closest_other: float
    own_is_nearest: float


def figures(sounds: Iterable[ClonedSound], speakers: Voices, encoder: Encoder) -> TrialFigures:
    """The figures of at least one sound. `speakers` are the mean vectors of the speakers' recordings."""
    listed = list(sounds)
    alike = [
        likeness(one.speaker, soxr.resample(one.samples, SAMPLE_RATE_HZ, HEARD_RATE_HZ), encoder, speakers)
        for one in listed
    ]
    return TrialFigures(
        sounds=len(listed),
        ended=float(np.mean([one.ended for one in listed])),
        own=float(np.mean([one.own for one in alike])),
        closest_other=float(np.mean([one.closest_other for one in alike])),
        own_is_nearest=float(np.mean([one.nearest == one.voice for one in alike])),
    )


def decoded(replies: Iterable[GeneratedReply], codec: Mimi) -> list[ClonedSound]:
    """The sound of each reply that has frames."""
    return [
        ClonedSound(one.voice, codec.decode(np.array(one.frames)), one.end is EndReason.EOS)
        for one in replies
        if one.frames
    ]


def _shown(rows: Sequence[tuple[str, TrialFigures]]) -> Table:
    table = Table("", "sounds", "ended", "likeness to own", "closest other", "own is nearest")
    for name, row in rows:
        table.add_row(
            *(name, str(row.sounds), f"{row.ended:.1%}", f"{row.own:.3f}", f"{row.closest_other:.3f}"),
            f"{row.own_is_nearest:.1%}",
        )
    return table


def main(
    root: Annotated[Path, typer.Option(help="Working folder.")] = ROOT,
    per_speaker: Annotated[int, typer.Option(help="Replies of each speaker.")] = 4,
    seed: Annotated[int, typer.Option(help="Seed of sampling.")] = 0,
    threads: Annotated[int, typer.Option(help="CPU threads.")] = 1,
) -> None:
    """Say some replies as the speakers that are kept for trials, and compare them with their recordings."""
    torch.set_num_threads(threads)
    encoder, recordings = load_voice_print(), load_recordings(root, nano_tokenizer())
    own = {
        voice: [load(root / "audio" / clip.path) for clip in read_speech(root / "audio") if clip.voice == voice]
        for voice in recordings.kept
    }
    speakers = {voice: direction(map(encoder, clips)) for voice, clips in own.items()}
    sentences = [clip for clip in next(iter(recordings.replies.values())) if clip.weight == 1.0]
    replies = {voice: spread_over(sentences, per_speaker) for voice in recordings.kept}
    sampling = SamplingParams(temperature=TEMPERATURE, top_k=TOP_K, seed=seed)
    with TemporaryDirectory() as folder:
        checkpoint = scratch_checkpoint(root, Path(folder))
        generator, codec = load_generator(checkpoint, slots=SLOTS), Mimi.load(checkpoint)
        config = ChromaConfig.from_dict(checkpoint.config)
        planned = plan_replies(generator, config, replies, recordings.kept, sampling)
        for start in track(range(0, len(planned), SLOTS), "speak", console=console):
            generate(generator, planned[start : start + SLOTS])
        coded = [
            ClonedSound(voice, codec.decode(clip.variants[0]))
            for voice, some in recordings.kept.items()
            for clip in some
        ]
        rows = [
            ("replies", figures(decoded(planned, codec), speakers, encoder)),
            ("prompts after the codec", figures(coded, speakers, encoder)),
        ]
    console.print(_shown(rows))


if __name__ == "__main__":
    typer.run(main)
