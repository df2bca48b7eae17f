"""What callers ask and what replies are like: the quantities of a turn that the services do not decide."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from services.common.wire.audio import FRAME_S


class Replies(Protocol):
    """Draws the length of a reply."""

    def draw_s(self, question: int, voice: str, dice: random.Random) -> float:
        """Seconds of speech of the reply to a question in a voice."""
        ...


@dataclass(frozen=True)
class MeasuredReplies:
    """Lengths that were measured, by question and voice. A pair that was not met takes any measured length."""

    lengths_s: Mapping[tuple[int, str], Sequence[float]]

    def draw_s(self, question: int, voice: str, dice: random.Random) -> float:
        """One of the lengths measured for this pair."""
        found = self.lengths_s.get((question, voice))
        return dice.choice(found or [length for lengths in self.lengths_s.values() for length in lengths])


@dataclass(frozen=True)
class UniformReplies:
    """Lengths that are spread evenly from `least_s` to `most_s`."""

    least_s: float
    most_s: float

    def draw_s(self, question: int, voice: str, dice: random.Random) -> float:
        """A length, whatever the question and the voice."""
        return dice.uniform(self.least_s, self.most_s)


@dataclass(frozen=True)
class Workload:
    """Quantities of every turn. Times are in seconds, positions are those of the reasoner's prompt.

    `hop_s` is the time of a message from one process to the next, with its handling. A reply makes `thoughts_per_frame`
    thoughts for each frame, at most one for two. `prefix_kept` is the share of later turns whose replica still has the
    conversation's prefix, if it is the same replica.
    """

    questions_s: tuple[float, ...]
    replies: Replies
    hop_s: float = 0.001
    max_lead_s: float = 2.0
    thoughts_per_frame: float = 0.5
    positions_per_s: float = 25.0
    fixed_positions: int = 12
    """Positions of the template that each turn adds."""
    system_positions: int = 200
    """Positions before the first turn that are not shared by all conversations."""
    voice_positions: int = 170
    prefix_kept: float = 1.0

    def frames(self, question: int, voice: str, dice: random.Random) -> int:
        """Draw the number of frames of a reply."""
        return max(1, round(self.replies.draw_s(question, voice, dice) / FRAME_S))

    def thoughts(self, frames: int) -> int:
        """Thoughts of a reply of so many frames."""
        return min(math.ceil(frames / 2), max(1, round(frames * self.thoughts_per_frame)))
