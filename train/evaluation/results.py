"""The results of an evaluation, for evaluation.json and docs/nano.md."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from chroma_voice.eval.judge import Judged
from chroma_voice.eval.recognition.word_errors import together
from chroma_voice.eval.speakers.likeness import summary
from train.evaluation.ask import Answer


@dataclass(frozen=True)
class Share:
    """A number of right answers among a number of questions."""

    name: str
    right: int
    count: int

    @property
    def rate(self) -> float:
        """Share of right answers. Raises `ZeroDivisionError` without questions."""
        return self.right / self.count


@dataclass(frozen=True)
class VoiceFigures:
    """Means over the recordings of a voice. `ended_by_eos` is None for originals."""

    voice: str
    recordings: int
    words: int
    word_error_rate: float
    own: float
    closest_other: float
    own_is_nearest: float
    ended_by_eos: float | None


@dataclass(frozen=True)
class Mistake:
    """A question with a wrong answer."""

    group: str
    voice: str
    question: str
    expected: str
    reply: str


@dataclass(frozen=True)
class Misrecognised:
    """A reply with word errors in its transcript."""

    voice: str
    text: str
    transcript: str
    word_error_rate: float


@dataclass(frozen=True)
class Taco:
    """The reply to the taco question of a person, and the transcript of the reply's sound."""

    voice: str
    reply: str
    transcript: str = ""


@dataclass(frozen=True)
class Results:
    """All results of one evaluation."""

    checkpoint_bytes: int
    questions: list[Share]
    asking_voices: list[Share]
    degraded: list[Share]
    conversations: list[Share]
    originals: list[VoiceFigures]
    replies: list[VoiceFigures]
    answers: VoiceFigures | None
    taco: Taco
    mistakes: list[Mistake]
    misrecognised: list[Misrecognised]

    def write(self, path: Path) -> None:
        """Write the results as JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Results:
        """Read the JSON of `write`."""
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        lists: dict[str, type] = {
            "questions": Share,
            "asking_voices": Share,
            "degraded": Share,
            "conversations": Share,
            "originals": VoiceFigures,
            "replies": VoiceFigures,
            "mistakes": Mistake,
            "misrecognised": Misrecognised,
        }
        single: dict[str, type] = {"answers": VoiceFigures, "taco": Taco}
        read: dict[str, Any] = {name: [kind(**line) for line in content[name]] for name, kind in lists.items()}
        read |= {name: content[name] and kind(**content[name]) for name, kind in single.items()}
        return cls(checkpoint_bytes=content["checkpoint_bytes"], **read)


def shares(answers: Iterable[Answer], name_of: Callable[[Answer], str]) -> list[Share]:
    """The right answers and the number of answers of each name, in the order of the names' first answers."""
    of_name: defaultdict[str, list[bool]] = defaultdict(list)
    for answer in answers:
        of_name[name_of(answer)].append(answer.right)
    return [Share(name, sum(right), len(right)) for name, right in of_name.items()]


def figures(voice: str, judged: Sequence[Judged]) -> VoiceFigures:
    """Means over recordings, at least one."""
    errors = together(one.errors for one in judged)
    alike = summary(one.likeness for one in judged)
    ends = [one.ended == "eos" for one in judged if one.ended is not None]
    return VoiceFigures(
        voice=voice,
        recordings=len(judged),
        words=errors.words,
        word_error_rate=errors.rate,
        own=alike.own,
        closest_other=alike.closest_other,
        own_is_nearest=alike.own_is_nearest,
        ended_by_eos=sum(ends) / len(ends) if ends else None,
    )


def figures_by_voice(judged: Sequence[Judged]) -> list[VoiceFigures]:
    """Means for each voice, in the order of their names, and for all voices at the end."""
    voices = sorted({one.voice for one in judged})
    return [
        *(figures(voice, [one for one in judged if one.voice == voice]) for voice in voices),
        figures("all", judged),
    ]


def mistakes(answers: Iterable[Answer]) -> list[Mistake]:
    """The wrong answers."""
    return [
        Mistake(
            answer.question.group, answer.question.voice, answer.question.text, answer.question.expected, answer.reply
        )
        for answer in answers
        if not answer.right
    ]


def misrecognised(judged: Iterable[Judged]) -> list[Misrecognised]:
    """The recordings with word errors, the worst one first."""
    found = [Misrecognised(one.voice, one.text, one.transcript, one.errors.rate) for one in judged if one.errors.wrong]
    return sorted(found, key=lambda one: one.word_error_rate, reverse=True)
