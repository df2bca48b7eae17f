"""The reference points of an evaluation: what the instruments say about the recordings of the voices themselves."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
import soxr
from numpy.typing import NDArray

from chroma_voice.errors import ChromaError
from chroma_voice.eval.instruments import Instruments
from chroma_voice.eval.pairs import PairSet, PairVoice
from chroma_voice.eval.recognition.transcription import SAMPLE_RATE_HZ, load
from chroma_voice.eval.recognition.word_errors import word_errors
from chroma_voice.eval.recognition.words import normalise
from chroma_voice.eval.records import Reference, ReferenceKind

CODEC_RATE_HZ = 24_000
MAX_OTHERS = 200
"""Pairs of voices that are compared, at most; of more voices each is compared with the next ones."""

Samples = NDArray[np.float32]
Codec = Callable[[Samples], Awaitable[Samples]]
"""Encodes and decodes samples [S] at 24 kHz."""


@dataclass
class References:
    """The reference points, and why one is missing, by its kind."""

    found: list[Reference] = field(default_factory=list)
    missing: dict[ReferenceKind, str] = field(default_factory=dict)


async def measure_references(
    pairs: PairSet,
    vectors: dict[str, Samples],
    instruments: Instruments,
    codec: Codec | None,
    done: Callable[[], None] = lambda: None,
) -> References:
    """Measure the recordings of all voices. `codec` None: none can be reached. `done` is called after each voice."""
    references = References()
    if codec is None:
        references.missing["codec"] = "no codec service is known: --codec names one"
    if len(vectors) < 2:
        references.missing["other"] = "there is one voice only"
    if not vectors:
        references.missing |= {"recording": "no recordings are known", "itself": "no recordings are known"}
    for name, voice in pairs.voices.items():
        samples = load(voice.recordings[0])
        references.found.append(_words(Reference("recording", name), voice, samples, instruments))
        itself = _itself(voice, vectors[name], samples, instruments)
        if itself is not None:
            references.found.append(Reference("itself", name, similarity=itself))
        if codec is not None and "codec" not in references.missing:
            try:
                decoded = await codec(load(voice.recordings[0], CODEC_RATE_HZ))
            except ChromaError as error:
                references.missing["codec"] = f"the codec service refuses: {error.message}"
            else:
                references.found.append(_after_codec(voice, vectors[name], decoded, instruments))
        done()
    if not any(one.kind == "itself" for one in references.found):
        references.missing.setdefault("itself", "no recording has speech in both of its halves")
    references.found += _others(vectors)
    return references


def _itself(voice: PairVoice, vector: Samples, samples: Samples, instruments: Instruments) -> float | None:
    """Mean similarity to the other recordings of the speaker; without any, that of the two halves. None: no speech."""
    try:
        if len(voice.recordings) > 1:
            others = [instruments.encoder(load(path)) for path in voice.recordings[1:]]
            return float(np.mean([vector @ other for other in others]))
        first, second = (instruments.encoder(half) for half in np.array_split(samples, 2))
    except ValueError:
        return None
    return float(first @ second)


def _after_codec(voice: PairVoice, vector: Samples, decoded: Samples, instruments: Instruments) -> Reference:
    samples = resampled(decoded)
    try:
        similarity = float(instruments.encoder(samples) @ vector)
    except ValueError:
        similarity = 0.0
    return _words(Reference("codec", voice.name, similarity=similarity), voice, samples, instruments)


def _words(reference: Reference, voice: PairVoice, samples: Samples, instruments: Instruments) -> Reference:
    """The reference with the word errors of what the recording says."""
    if not normalise(voice.transcript):
        return reference
    errors = word_errors(voice.transcript, instruments.recogniser(samples))
    return Reference(
        reference.kind, reference.voice, reference.beside, reference.similarity, errors.wrong, errors.words
    )


def _others(vectors: dict[str, Samples]) -> Iterator[Reference]:
    names = sorted(vectors)
    near = max(1, MAX_OTHERS // max(1, len(names)))
    for (first, one), (second, other) in combinations(enumerate(names), 2):
        if second - first <= near:
            yield Reference("other", one, other, similarity=float(vectors[one] @ vectors[other]))


def resampled(samples: Samples) -> Samples:
    """Return samples [S] at 24 kHz as the instruments take them, at 16 kHz."""
    return soxr.resample(samples, CODEC_RATE_HZ, SAMPLE_RATE_HZ)
