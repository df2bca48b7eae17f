"""The corpus: every reply in every reply voice, and every question in many other voices.

    python -m train.synthesis --part replies
    python -m train.synthesis --part questions --shard 0/2

What is there already is not made again. A clip's voice, speed and file name follow from its text and the seed alone,
so a changed sentence costs only its own clips.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import soundfile as sf
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from train.corpus import Clip, Role, append, keep_only
from train.domain import Domain, load_domain
from train.loop import ROOT
from train.sound import Voice, tidy
from train.voices import Asking, Studio

REPLY_RATE_HZ = 24_000
QUESTION_RATE_HZ = 16_000

_KOKORO_EACH, _FLITE_EACH, _ESPEAK_EACH = 2, 3, 4  # voices that say one training phrasing
_HELD_OUT_EACH = 3  # held-out voices that say one held-out phrasing
_SEEN_SHARE = 0.2  # of the training phrasings, said by one held-out voice
_SLOWEST, _FASTEST = 0.85, 1.2
_ENDINGS = ".?"  # most phrasings have none: a falling or a rising voice


class Part(StrEnum):
    """What one run makes."""

    REPLIES = "replies"
    QUESTIONS = "questions"


@dataclass(frozen=True)
class Line:
    """A clip to be made: `spoken` is the text as the voice is given it."""

    voice: Voice
    text: str
    spoken: str
    role: Role
    intent: str | None
    held_out: bool
    speed: float

    def path(self, part: Part) -> str:
        """Where the clip lies, relative to the audio folder."""
        mark = hashlib.sha256(self.text.encode()).hexdigest()[:12]
        return f"{part}/{self.voice.name}/{self.role}-{mark}.wav"


@dataclass(frozen=True)
class Phrasing:
    """Something a user may say."""

    text: str
    role: Role
    intent: str | None
    held_out: bool


def plan_replies(domain: Domain, voices: Sequence[Voice], auxiliary: Sequence[Voice]) -> list[Line]:
    """Every reply and prompt in every reply voice, sentence by sentence; then the auxiliary voices' prompts."""
    answers = {intent.answer: intent.name for intent in domain.intents}
    lines = [
        Line(voice, text, text, "reply", answers.get(text), held_out=False, speed=1.0)
        for text in domain.replies
        for voice in voices
    ]
    lines += (
        Line(voice, text, text, "prompt", None, held_out=False, speed=1.0)
        for speakers in (voices, auxiliary)
        for text in domain.prompts
        for voice in speakers
    )
    return lines


def phrasings(domain: Domain) -> Iterator[Phrasing]:
    """Everything a user may say here."""
    for intent in domain.intents:
        for texts, held_out in ((intent.questions, False), (intent.held_out, True)):
            yield from (Phrasing(text, "question", intent.name, held_out) for text in texts)
    outside: tuple[tuple[Role, Iterable[str], bool], ...] = (
        ("outside", domain.outside, False),
        ("outside", domain.outside_held_out, True),
        ("repeat", domain.repeat, False),
        ("repeat", domain.repeat_held_out, True),
    )
    for role, texts, held_out in outside:
        yield from (Phrasing(text, role, None, held_out) for text in texts)


def plan_questions(domain: Domain, asking: Asking, seed: int) -> list[Line]:
    """Each training phrasing in a few voices of each engine; held-out phrasings, and some others, in held-out voices.

    Held-out clips come last, and Kokoro's after those of the faster engines; beyond that the order is random, so a part
    of the list is a fair sample.
    """
    lines = []
    for phrasing in phrasings(domain):
        draw = random.Random(f"{seed}/{phrasing.text}")
        held_out = list(asking.held_out)
        draw.shuffle(held_out)
        if phrasing.held_out:
            speakers = held_out[:_HELD_OUT_EACH]
        else:
            speakers = [
                *_some(asking.kokoro, _KOKORO_EACH, draw),
                *_some(asking.flite, _FLITE_EACH, draw),
                *_some(asking.espeak, _ESPEAK_EACH, draw),
                *(held_out[:1] if draw.random() < _SEEN_SHARE else ()),
            ]
        lines += (_question(phrasing, voice, asking, seed) for voice in speakers)
    random.Random(seed).shuffle(lines)
    return sorted(lines, key=lambda line: (line.held_out, line.voice in asking.kokoro))


def _some(voices: Sequence[Voice], count: int, draw: random.Random) -> list[Voice]:
    """`count` of the voices. A larger count keeps those of a smaller one."""
    shuffled = list(voices)
    draw.shuffle(shuffled)
    return shuffled[:count]


def _question(phrasing: Phrasing, voice: Voice, asking: Asking, seed: int) -> Line:
    draw = random.Random(f"{seed}/{voice.name}/{phrasing.text}")
    return Line(
        voice,
        phrasing.text,
        phrasing.text.rstrip(_ENDINGS) + draw.choice(_ENDINGS),
        phrasing.role,
        phrasing.intent,
        held_out=phrasing.held_out or voice in asking.held_out,
        speed=draw.uniform(_SLOWEST, _FASTEST),
    )


def synthesise(
    lines: Sequence[Line], part: Part, audio: Path, *, shard: tuple[int, int] = (0, 1), said: Callable[[], object]
) -> None:
    """Make the clips of `lines` that are not there yet, or this shard's, and list them in the part's manifest.

    Clips outside `lines` leave the manifest. `said` is called after each line. Raises what a voice raises.
    """
    manifest = audio / f"{part}.jsonl"
    sample_rate_hz = REPLY_RATE_HZ if part is Part.REPLIES else QUESTION_RATE_HZ
    listed = keep_only(manifest, {line.path(part) for line in lines})
    number, count = shard
    for line in lines[number::count]:
        path = line.path(part)
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
    ours = parse_shard(shard)
    studio = Studio(root)
    if part is Part.REPLIES:
        lines = plan_replies(load_domain(), studio.reply_voices(), studio.auxiliary_voices())
    else:
        lines = plan_questions(load_domain(), studio.asking_voices(), seed)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(width=100)) as progress:
        task = progress.add_task(f"{part} {shard}", total=len(lines[ours[0] :: ours[1]]), rate="")

        def said() -> None:
            speed = progress.tasks[0].speed
            progress.update(task, advance=1, rate=f"{speed:.1f} clips/s" if speed else "")

        synthesise(lines, part, root / "audio", shard=ours, said=said)


if __name__ == "__main__":
    typer.run(main)
