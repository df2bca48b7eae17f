"""Random conversations for training: the user's turns and the right replies.

spoken or typed question  -> the intent's answer
"say that again"          -> the previous reply; without one, the outside answer
anything else, or noise   -> the outside answer
with SCRIBE_PROMPT        -> the words of the question
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from train.corpus.clip_index import Clip, shuffled_passes, subject_of
from train.corpus.domain import Domain
from train.corpus.lead_ins import with_lead_ins
from train.corpus.paraphrases import OUTSIDE, REPEAT

_OTHERS_TYPED = 0.25
"""Share of typed turns that are outside the domain or ask for the previous reply."""

_Option = TypeVar("_Option")

SCRIBE_PROMPT = (
    "You write down speech. Answer with the exact words that the user speaks, in the language they are spoken in, "
    "and with nothing else."
)
"""The system prompt with which the gateway asks for the user's words
(gateway/conversation/transcripts/transcription.py)."""

SYSTEM_PROMPTS = (
    "You are Chroma, a guide in a museum.",
    "You are a friendly voice assistant. Keep your answers short.",
    "Answer the questions of the visitors in one sentence.",
    "Be polite and brief.",
)
"""System prompts beside the chat template's default. They do not change the right reply."""


@dataclass(frozen=True)
class Turn:
    """The user's input, a clip or typed text, and the right reply. With neither: a recording without speech."""

    reply: str
    clip: Clip | None = None
    typed: str | None = None


@dataclass(frozen=True)
class Conversation:
    """One or more turns. `greeted`: Chroma speaks first."""

    turns: tuple[Turn, ...]
    system_prompt: str | None = None
    greeted: bool = False


@dataclass(frozen=True)
class Mixture:
    """Probabilities of the kinds of turns and conversations."""

    typed: float = 0.12
    """Share of the turns that are typed."""
    no_speech: float = 0.025
    another_turn: float = 0.3
    """Probability of another turn after each turn, up to `most_turns`."""
    typed_earlier: float = 0.4
    """Share of typed turns among those before a conversation's last turn."""
    most_turns: int = 8
    again: float = 0.06
    """Share of the turns after a reply that ask for the same reply again."""
    paraphrased: float = 0.7
    """Share of the typed turns that are paraphrases."""
    lead_in: float = 0.3
    """Share of the other typed turns that begin with a lead-in."""
    greeted: float = 0.1
    other_prompt: float = 0.12
    scribe: float = 0.04


class ConversationSource:
    """Endless random conversations. They use every clip once before they use any clip again.

    Each such pass begins with a call of `clips`, so a corpus may grow during training.
    """

    def __init__(
        self,
        domain: Domain,
        clips: Callable[[], Sequence[Clip]],
        dice: np.random.Generator,
        mixture: Mixture | None = None,
    ) -> None:
        self._domain = domain
        self._answers = answers(domain)
        self._dice = dice
        self._mixture = mixture or Mixture()
        self._clips = shuffled_passes(clips, dice)
        self._repeats = [clip for clip in clips() if clip.role == REPEAT]
        self._texts = {intent.name: intent.questions for intent in domain.intents}
        self._others = {OUTSIDE: domain.outside, REPEAT: domain.repeat}
        self._draw = random.Random(int(dice.integers(1 << 32)))

    def __iter__(self) -> Iterator[Conversation]:
        """Raises `ValueError` when there are no clips."""
        while True:
            yield self._scribing() if self._happens(self._mixture.scribe) else self._conversation()

    def _conversation(self) -> Conversation:
        mixture = self._mixture
        greeted = self._happens(mixture.greeted)
        previous = self._domain.greeting if greeted else None
        turns: list[Turn] = []
        more = True
        while more:
            more = len(turns) + 1 < mixture.most_turns and self._happens(mixture.another_turn)
            turns.append(self._turn(previous, mixture.typed_earlier if more else mixture.typed))
            previous = turns[-1].reply
        prompt = self._choice(SYSTEM_PROMPTS) if self._happens(mixture.other_prompt) else None
        return Conversation(tuple(turns), prompt, greeted)

    def _scribing(self) -> Conversation:
        clip = next(self._clips)
        return Conversation((Turn(clip.text, clip),), SCRIBE_PROMPT)

    def _turn(self, previous: str | None, typed: float) -> Turn:
        if self._happens(self._mixture.no_speech):
            return Turn(self._domain.outside_answer)
        again = previous is not None and self._happens(self._mixture.again)
        if self._happens(typed):
            about = REPEAT if again else self._subject_to_type()
            return Turn(reply_to(about, previous, self._answers), typed=self._as_typed(self._text(about)))
        clip = self._choice(self._repeats) if again and self._repeats else next(self._clips)
        return Turn(reply_to(subject_of(clip), previous, self._answers), clip)

    def _subject_to_type(self) -> str:
        """An intent, or with the probability `_OTHERS_TYPED` one of the other subjects."""
        if self._happens(_OTHERS_TYPED):
            return self._choice((OUTSIDE, OUTSIDE, OUTSIDE, REPEAT))
        return self._choice(tuple(self._texts))

    def _text(self, about: str) -> str:
        """A text about this subject: a paraphrase, or a phrasing with or without a lead-in."""
        paraphrase = (
            self._domain.paraphrases.draw(about, self._draw) if self._happens(self._mixture.paraphrased) else None
        )
        if paraphrase is not None:
            return paraphrase
        text = self._choice((self._texts | self._others)[about])
        variants = with_lead_ins(text, self._domain)
        return self._choice(variants) if variants and self._happens(self._mixture.lead_in) else text

    def _as_typed(self, text: str) -> str:
        """The text as people type it: with or without a capital letter and an end mark."""
        if self._happens(0.5):
            text = text[0].upper() + text[1:]
        elif self._happens(0.3):
            text = text.lower()
        return text.rstrip(".?!") + self._choice(("", "", "?", "."))

    def _happens(self, share: float) -> bool:
        return bool(self._dice.random() < share)

    def _choice(self, options: Sequence[_Option]) -> _Option:
        return options[int(self._dice.integers(len(options)))]


def answers(domain: Domain) -> dict[str, str]:
    """The reply to each subject. That of "repeat" is for a request to repeat without a previous reply."""
    return {intent.name: intent.answer for intent in domain.intents} | {
        OUTSIDE: domain.outside_answer,
        REPEAT: domain.outside_answer,
    }


def reply_to(about: str, previous: str | None, known: dict[str, str]) -> str:
    """The right reply to a question with the subject `about`, after the reply `previous`."""
    return previous if about == REPEAT and previous is not None else known[about]
