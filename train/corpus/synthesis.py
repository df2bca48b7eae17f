"""The corpus: every reply in every reply voice, and every question in many other voices.

    python -m train.corpus.synthesis --part replies
    python -m train.corpus.synthesis --part questions --shard 0/2

What is there already is not made again.
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

from train.audio.sound import tidy
from train.corpus.casting import Line, plan_questions, plan_replies
from train.corpus.clip_index import Clip, append, keep_only
from train.corpus.domain import load_domain
from train.corpus.voices import Studio
from train.optim.training_loop import ROOT

REPLY_RATE_HZ = 24_000
QUESTION_RATE_HZ = 16_000

_TOLD_EVERY = 100  # clips, where the output is no terminal
_COLUMNS = (
    TextColumn("{task.description}"),
    BarColumn(),
    MofNCompleteColumn(),
    TextColumn("{task.fields[rate]}"),
    TimeElapsedColumn(),
    TimeRemainingColumn(),
)


class Part(StrEnum):
    """What one run makes."""

    REPLIES = "replies"
    QUESTIONS = "questions"


def clip_path(line: Line, part: Part) -> str:
    """Where the clip lies, relative to the audio folder."""
    return f"{part}/{line.voice.name}/{line.file_name}"


def synthesise(
    lines: Sequence[Line], part: Part, audio: Path, *, shard: tuple[int, int] = (0, 1), said: Callable[[], object]
) -> None:
    """Make the clips of `lines` that are not there yet, or this shard's, and list them in the part's manifest.

    Clips outside `lines` leave the manifest. `said` is called after each line. Raises what a voice raises.
    """
    manifest = audio / f"{part}.jsonl"
    sample_rate_hz = REPLY_RATE_HZ if part is Part.REPLIES else QUESTION_RATE_HZ
    listed = keep_only(manifest, {clip_path(line, part) for line in lines})
    number, count = shard
    for line in lines[number::count]:
        path = clip_path(line, part)
        if path not in listed:
            seconds = _make(line, audio / path, sample_rate_hz)
            append(manifest, Clip(path, line.voice.name, line.text, line.role, line.intent, seconds, line.held_out))
        said()


def _make(line: Line, path: Path, sample_rate_hz: int) -> float:
    """Write the clip, whole or not at all. Returns its seconds."""
    sound = tidy(line.voice.say(line.spoken, line.speed), sample_rate_hz)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".unfinished")
    sf.write(unfinished, sound.samples, sample_rate_hz, subtype="PCM_16", format="WAV")
    unfinished.replace(path)
    return round(sound.seconds, 4)


def parse_shard(text: str) -> tuple[int, int]:
    """`i/n`: part i, from 0, of n. Raises `typer.BadParameter`."""
    number, _, count = text.partition("/")
    if not (number.isdigit() and count.isdigit() and int(number) < int(count)):
        raise typer.BadParameter(f"expected i/n with 0 <= i < n, as in 0/2, got {text!r}")
    return int(number), int(count)


def main(
    part: Annotated[Part, typer.Option(help="replies (24 kHz) or questions (16 kHz)")],
    shard: Annotated[str, typer.Option(help="i/n: make every n-th clip from i, so n processes share the work")] = "0/1",
    seed: Annotated[int, typer.Option(help="draws who says what, and how fast")] = 0,
    root: Annotated[Path, typer.Option(help="working folder: downloads/, debian/ and audio/ lie in it")] = ROOT,
) -> None:
    """Make the corpus, or go on making it. One thread."""
    number, count = parse_shard(shard)
    studio = Studio(root)
    if part is Part.REPLIES:
        lines = plan_replies(load_domain(), studio.reply_voices(), studio.asking_voices())
    else:
        lines = plan_questions(load_domain(), studio.asking_voices(), seed)
    ours = lines[number::count]
    with Progress(*_COLUMNS, console=Console(width=100)) as progress:
        task = progress.add_task(f"{part} {shard}", total=len(ours), rate="")

        def said() -> None:
            speed = progress.tasks[0].speed
            progress.update(task, advance=1, rate=f"{speed:.1f} clips/s" if speed else "")
            done = int(progress.tasks[0].completed)
            if not progress.console.is_terminal and done % _TOLD_EVERY == 0:
                progress.console.print(f"{part} {shard}: {done} of {len(ours)}")

        synthesise(lines, part, root / "audio", shard=(number, count), said=said)


if __name__ == "__main__":
    typer.run(main)
