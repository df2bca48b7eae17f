"""The plan of a run: conversations that arrive at given times, with their turns. A seed gives the same plan again."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from chroma_voice.errors import InvalidArgument


@dataclass(frozen=True)
class Question:
    """A recorded question: 16-bit little-endian mono PCM at 24 kHz, without silence at its ends."""

    name: str
    speech: bytes

    @property
    def duration_s(self) -> float:
        """Seconds of speech."""
        return len(self.speech) / 2 / 24_000


@dataclass(frozen=True)
class PlannedTurn:
    """One turn of the user. `question` is an index into the questions of the run.

    The user begins `think_s` after the end of the reply before; in the first turn, after the conversation's arrival.
    `barge_in_s`: the user interrupts this turn's reply with the next turn, after so many seconds of it. None: never.
    """

    question: int
    think_s: float = 0.0
    barge_in_s: float | None = None


@dataclass(frozen=True)
class PlannedConversation:
    """A conversation that arrives `at_s` seconds after the start of the run. An empty `voice`: the server chooses."""

    number: int
    at_s: float
    voice: str
    hands_free: bool
    turns: tuple[PlannedTurn, ...]


@dataclass(frozen=True)
class Mix:
    """How conversations are drawn. Shares are probabilities, from 0 to 1.

    The number of turns is uniform from `min_turns` to `max_turns`, the think time exponential with this mean and at
    most five times as long, the point of an interruption uniform from 0.5 s to `barge_in_within_s`.
    """

    voices: tuple[str, ...] = ("",)
    questions: int = 1
    """Number of recorded questions, which are drawn evenly."""
    min_turns: int = 1
    max_turns: int = 3
    think_s: float = 1.5
    barge_in: float = 0.1
    barge_in_within_s: float = 2.0
    hands_free: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        """Raises `InvalidArgument` for values that cannot be drawn from."""
        for name in ("barge_in", "hands_free"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise InvalidArgument(f"expected {name} from 0 to 1, got {getattr(self, name):g}")
        if not 1 <= self.min_turns <= self.max_turns:
            raise InvalidArgument(
                f"expected 1 <= turns at least <= turns at most, got {self.min_turns}, {self.max_turns}"
            )
        if self.think_s < 0 or self.barge_in_within_s < 0.5:
            raise InvalidArgument("expected a think time of 0 s or more, and interruptions within 0.5 s or more")
        if not self.questions or not self.voices:
            raise InvalidArgument("expected at least one question and one voice")

    def conversation(self, number: int, at_s: float) -> PlannedConversation:
        """Draw conversation `number`. It depends on the seed and the number alone, not on how many others there are."""
        dice = random.Random(f"{self.seed} conversation {number}")
        hands_free = dice.random() < self.hands_free
        voice = dice.choice(self.voices)
        count = dice.randint(self.min_turns, self.max_turns)
        turns = []
        for index in range(count):
            think_s = min(dice.expovariate(1 / self.think_s), 5 * self.think_s) if self.think_s else 0.0
            interrupts = dice.random() < self.barge_in
            barge_in_s = dice.uniform(0.5, self.barge_in_within_s)
            turns.append(
                PlannedTurn(
                    question=dice.randrange(self.questions),
                    think_s=think_s if index else 0.0,
                    barge_in_s=barge_in_s if interrupts and index + 1 < count else None,
                )
            )
        return PlannedConversation(number, at_s, voice, hands_free, tuple(turns))

    def conversations(self, arrivals_s: Sequence[float]) -> list[PlannedConversation]:
        """Draw a conversation for each arrival."""
        return [self.conversation(number, at_s) for number, at_s in enumerate(arrivals_s)]
