"""How much replies to strangers sound like them, beside how much the strangers sound like themselves and like others.

Likeness is the cosine of two recordings' speaker embeddings. A recording's likeness to a speaker is the mean of those
with the speaker's prompts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from chroma_voice.eval.judge import Judged
from chroma_voice.eval.recognition.word_errors import together
from train.evaluation.strangers.speakers import Strangers, engine_of

Vector = NDArray[np.float32]
"""A speaker embedding [D] of length 1."""


@dataclass(frozen=True)
class Recordings:
    """The speaker embeddings of a stranger's prompts, as they are and after the codec alone, in the same order."""

    prompts: Sequence[Vector]
    coded: Sequence[Vector]


@dataclass(frozen=True)
class StrangerFigures:
    """Figures of one stranger, means over recordings.

    Of replies: `own` is the likeness to the prompt, `closest_other` that to the most similar other speaker,
    `own_is_nearest` how often the prompt's speaker is the most similar of all. The fields that begin with `prompts_`
    are the same for the stranger's own recordings; each is compared with the speaker's other recordings.
    `coded_own` compares each recording after the codec with the others as they are.
    """

    speaker: str
    engine: str
    prompts: int
    replies: int
    words: int
    wrong_words: int
    ended_by_eos: float
    own: float
    closest_other: float
    own_is_nearest: float
    prompts_own: float
    prompts_closest_other: float
    prompts_own_is_nearest: float
    coded_own: float

    @property
    def word_error_rate(self) -> float:
        """Share of wrong words in the transcripts of the replies."""
        return self.wrong_words / self.words


def measure(
    strangers: Strangers, recordings: Mapping[str, Recordings], judged: Sequence[Judged]
) -> list[StrangerFigures]:
    """The figures of each stranger with replies. `judged` were compared with the prompts of all, by their ids."""
    found = []
    for speaker, prompts in strangers.items():
        own_ids = {prompt.voice_id for prompt in prompts}
        replies = [one for one in judged if one.voice in own_ids]
        if not replies:
            continue
        errors = together(one.errors for one in replies)
        nearness = [_of_reply(one.likeness.cosines, strangers, speaker) for one in replies]
        vectors, coded = recordings[speaker].prompts, recordings[speaker].coded
        itself = [_of_recording(number, recordings, speaker) for number in range(len(vectors))]
        others = [
            float(coded[one] @ vectors[other])
            for one in range(len(coded))
            for other in range(len(vectors))
            if one != other
        ]
        found.append(
            StrangerFigures(
                speaker=speaker,
                engine=engine_of(speaker),
                prompts=len(prompts),
                replies=len(replies),
                words=errors.words,
                wrong_words=errors.wrong,
                ended_by_eos=_mean([one.ended == "eos" for one in replies]),
                own=_mean([one.likeness.own for one in replies]),
                closest_other=_mean([other for _, other in nearness]),
                own_is_nearest=_mean([own > other for own, other in nearness]),
                prompts_own=_mean([float(one @ other) for one, other in combinations(vectors, 2)]),
                prompts_closest_other=_mean([other for _, other in itself]),
                prompts_own_is_nearest=_mean([own > other for own, other in itself]),
                coded_own=_mean(others),
            )
        )
    return found


def write(figures: Sequence[StrangerFigures], path: Path) -> None:
    """Write the figures as JSON."""
    path.write_text(json.dumps([asdict(one) for one in figures], indent=2) + "\n", encoding="utf-8")


def _of_reply(cosines: Mapping[str, float], strangers: Strangers, speaker: str) -> tuple[float, float]:
    """Likeness of a reply to its speaker and to the most similar other one; 0 for a reply without speech."""
    if not cosines:
        return 0.0, 0.0
    alike = {name: _mean([cosines[one.voice_id] for one in prompts]) for name, prompts in strangers.items()}
    return alike.pop(speaker), max(alike.values(), default=0.0)


def _of_recording(number: int, recordings: Mapping[str, Recordings], speaker: str) -> tuple[float, float]:
    """Likeness of a speaker's recording to the speaker's other ones, and to the most similar other speaker."""
    vector = recordings[speaker].prompts[number]
    alike = {
        name: _mean([float(vector @ one) for index, one in enumerate(of.prompts) if name != speaker or index != number])
        for name, of in recordings.items()
    }
    return alike.pop(speaker), max(alike.values(), default=0.0)


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))
