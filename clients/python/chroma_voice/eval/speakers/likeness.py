"""Likeness of a recording to voices: cosines of speaker embeddings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Encoder = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""Maps samples [S] at 16 kHz to a vector of length 1. Raises `ValueError` for samples without speech."""

Voices = Mapping[str, NDArray[np.float32]]
"""The vectors [D] of length 1 of voices, by name."""


@dataclass(frozen=True)
class Likeness:
    """The cosines of a recording of `voice` with the prompt of each voice; none for a recording without speech."""

    voice: str
    cosines: Mapping[str, float]

    @property
    def nearest(self) -> str | None:
        """The voice with the largest cosine; None for a recording without speech."""
        return max(self.cosines, key=self.cosines.__getitem__) if self.cosines else None

    def nearest_of(self, voices: Iterable[str]) -> str | None:
        """The voice with the largest cosine among `voices`; None for a recording without speech."""
        return max(voices, key=self.cosines.__getitem__) if self.cosines else None

    @property
    def own(self) -> float:
        """Cosine with the prompt of its own voice; 0 for a recording without speech."""
        return self.cosines.get(self.voice, 0.0)

    @property
    def closest_other(self) -> float:
        """Largest cosine with the prompt of another voice."""
        return max((cosine for voice, cosine in self.cosines.items() if voice != self.voice), default=0.0)


def direction(vectors: Iterable[NDArray[np.float32]]) -> NDArray[np.float32]:
    """The mean of at least one vector [D], scaled to length 1."""
    mean = np.mean(list(vectors), axis=0)
    return mean / np.linalg.norm(mean)


@dataclass(frozen=True)
class MeanLikeness:
    """Means over recordings: likeness to the own voice and to the closest other voice, and how often the own is
    nearest.
    """

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
