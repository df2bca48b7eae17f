"""How much a recording sounds like each of the voices that could have spoken it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Encoder = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""From samples [S] at 16 kHz to a vector of length 1; raises `ValueError` where nobody speaks."""

Voices = Mapping[str, NDArray[np.float32]]
"""Voices by name, as vectors [D] of length 1."""


@dataclass(frozen=True)
class Likeness:
    """Cosine of a recording in `voice` with the prompt of each voice; empty where nobody was heard to speak."""

    voice: str
    cosines: Mapping[str, float]

    @property
    def nearest(self) -> str | None:
        """The voice whose prompt it is most like."""
        return max(self.cosines, key=self.cosines.__getitem__) if self.cosines else None

    def nearest_of(self, voices: Iterable[str]) -> str | None:
        """Which of these voices, all compared with it, it is most like; None where nobody was heard to speak."""
        return max(voices, key=self.cosines.__getitem__) if self.cosines else None

    @property
    def own(self) -> float:
        """Cosine with the prompt of its own voice; 0 where nobody spoke."""
        return self.cosines.get(self.voice, 0.0)

    @property
    def closest_other(self) -> float:
        """Largest cosine with the prompt of another voice."""
        return max((cosine for voice, cosine in self.cosines.items() if voice != self.voice), default=0.0)


def direction(vectors: Iterable[NDArray[np.float32]]) -> NDArray[np.float32]:
    """The mean of vectors [D], at least one, made length 1."""
    mean = np.mean(list(vectors), axis=0)
    return mean / np.linalg.norm(mean)


@dataclass(frozen=True)
class MeanLikeness:
    """Means over recordings: likeness to the own prompt and to the closest other; how often the own is the nearest."""

    own: float
    closest_other: float
    own_is_nearest: float


def likeness(voice: str, samples: NDArray[np.float32], encoder: Encoder, prompts: Voices) -> Likeness:
    """Likeness of samples [S] at 16 kHz to the voices of `prompts`."""
    try:
        vector = encoder(samples)
    except ValueError:
        return Likeness(voice, {})
    return Likeness(voice, {name: float(vector @ prompt) for name, prompt in prompts.items()})


def summary(measured: Iterable[Likeness]) -> MeanLikeness:
    """Means over recordings, at least one."""
    listed = list(measured)
    return MeanLikeness(
        own=float(np.mean([one.own for one in listed])),
        closest_other=float(np.mean([one.closest_other for one in listed])),
        own_is_nearest=float(np.mean([one.nearest == one.voice for one in listed])),
    )
