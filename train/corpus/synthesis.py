"""Stage `synthesis`: make the corpus: replies in the reply voices and by the speakers to clone, questions by others.

    python -m train.corpus.synthesis --part replies
    python -m train.corpus.synthesis --part speakers --shard 0/2
    python -m train.corpus.synthesis --part questions --shard 0/2
    python -m train.corpus.synthesis --part questions --only-evaluation

A clip that exists is not made again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import soundfile as sf
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from train.audio.sound import standardise
from train.corpus.clip_index import Clip, append, keep_only
from train.corpus.domain import load_domain
from train.corpus.speaker_assignment import PlannedClip, plan_questions, plan_replies, plan_speakers
from train.corpus.voices import VoiceEngines
from train.optim.training_loop import ROOT

REPLY_RATE_HZ = 24_000
QUESTION_RATE_HZ = 16_000

_PRINTED_EVERY = 100  # clips, when the output is not a terminal
_COLUMNS = (
    TextColumn("{task.description}"),
    BarColumn(),
    MofNCompleteColumn(),
    TextColumn("{task.fields[rate]}"),
    TimeElapsedColumn(),
    TimeRemainingColumn(),
)


class Part(StrEnum):
    """The part of the corpus that one run makes."""

    REPLIES = "replies"
    SPEAKERS = "speakers"
    QUESTIONS = "questions"


def clip_path(clip: PlannedClip, part: Part) -> str:
    """The path of the clip's file, relative to the audio folder."""
    return f"{part}/{clip.voice.name}/{clip.file_name}"


def of_evaluation(planned: Sequence[PlannedClip], part: Part) -> Sequence[PlannedClip]:
    """The clips that the evaluation needs: held-out ones, the originals of replies, and the prompts of their voices.

    It needs none of the speakers to clone.
    """
    if part is Part.SPEAKERS:
        return ()
    replying = {clip.voice.name for clip in planned if clip.role == "reply"}
    return [clip for clip in planned if clip.held_out or clip.voice.name in replying]


def synthesise(
    planned: Sequence[PlannedClip],
    part: Part,
    audio: Path,
    *,
    shard: tuple[int, int] = (0, 1),
    only_evaluation: bool = False,
    on_clip: Callable[[], object],
) -> None:
    """Make the clips of `planned` that do not exist yet, or this shard of them, and add them to the part's manifest.

    Clips outside `planned` are removed from the manifest. `only_evaluation` makes those of `of_evaluation` alone; other
    clips that exist stay. `on_clip` is called after each clip. Raises the exceptions of the voices.
    """
    manifest = audio / f"{part}.jsonl"
    sample_rate_hz = QUESTION_RATE_HZ if part is Part.QUESTIONS else REPLY_RATE_HZ
    listed = keep_only(manifest, {clip_path(clip, part) for clip in planned})
    number, count = shard
    for clip in (of_evaluation(planned, part) if only_evaluation else planned)[number::count]:
        path = clip_path(clip, part)
        if path not in listed:
            seconds = _make(clip, audio / path, sample_rate_hz)
            append(manifest, Clip(path, clip.voice.name, clip.text, clip.role, clip.intent, seconds, clip.held_out))
        on_clip()


def _make(clip: PlannedClip, path: Path, sample_rate_hz: int) -> float:
    """Write the clip in one step, so that no partial file remains. Returns its length in seconds."""
    sound = standardise(clip.voice.say(clip.spoken, clip.speed), sample_rate_hz)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".unfinished")
    sf.write(unfinished, sound.samples, sample_rate_hz, subtype="PCM_16", format="WAV")
    unfinished.replace(path)
    return round(sound.seconds, 4)


def _planned(part: Part, studio: VoiceEngines, seed: int) -> list[PlannedClip]:
    domain = load_domain()
    if part is Part.REPLIES:
        held_out = (*studio.asking_voices().held_out, *studio.strangers())
        return plan_replies(domain, studio.reply_voices(), held_out)
    if part is Part.SPEAKERS:
        return plan_speakers(domain, studio.speakers())
    return plan_questions(domain, studio.asking_voices(), seed)


def parse_shard(text: str) -> tuple[int, int]:
    """The numbers of `i/n`: shard i of n, counted from 0. Raises `typer.BadParameter`."""
    number, _, count = text.partition("/")
    if not (number.isdigit() and count.isdigit() and int(number) < int(count)):
        raise typer.BadParameter(f"expected i/n with 0 <= i < n, as in 0/2, got {text!r}")
    return int(number), int(count)


def main(
    part: Annotated[Part, typer.Option(help="replies or speakers (24 kHz), or questions (16 kHz)")],
    shard: Annotated[str, typer.Option(help="i/n: make every n-th clip from i, so n processes share the work")] = "0/1",
    seed: Annotated[int, typer.Option(help="draws the voice and the speed of each clip")] = 0,
    only_evaluation: Annotated[
        bool, typer.Option(help="only the clips that make eval-nano needs; of speakers: none")
    ] = False,
    root: Annotated[Path, typer.Option(help="working folder: downloads/, debian/ and audio/ lie in it")] = ROOT,
) -> None:
    """Make the corpus, or continue to make it. One thread."""
    number, count = parse_shard(shard)
    planned = _planned(part, VoiceEngines(root), seed)
    ours = (of_evaluation(planned, part) if only_evaluation else planned)[number::count]
    with Progress(*_COLUMNS, console=Console(width=100)) as progress:
        task = progress.add_task(f"{part} {shard}", total=len(ours), rate="")

        def on_clip() -> None:
            speed = progress.tasks[0].speed
            progress.update(task, advance=1, rate=f"{speed:.1f} clips/s" if speed else "")
            done = int(progress.tasks[0].completed)
            if not progress.console.is_terminal and done % _PRINTED_EVERY == 0:
                progress.console.print(f"{part} {shard}: {done} of {len(ours)}")

        synthesise(
            planned,
            part,
            root / "audio",
            shard=(number, count),
            only_evaluation=only_evaluation,
            on_clip=on_clip,
        )


if __name__ == "__main__":
    typer.run(main)
