"""The figures of an evaluation, from its replies and its reference points."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from chroma_voice.bench.summary import percentile
from chroma_voice.eval.records import Reference, ReplyRecord
from chroma_voice.eval.references import References
from chroma_voice.eval.sound import SoundStatistics

REFERENCES = {
    "recording": "recordings",
    "itself": "voice with itself",
    "other": "another speaker",
    "codec": "codec alone",
}
SOUND = ("seconds", "leading_silence_s", "longest_pause_s", "trailing_silence_s", "silent_share")
LEVELS = ("peak_dbfs", "rms_dbfs", "clipped_share")


@dataclass(frozen=True)
class Figures:
    """A quantity over several values. None: there are no values. Percentiles are nearest ranks."""

    count: int
    mean: float | None
    min: float | None
    median: float | None
    p95: float | None
    max: float | None

    @classmethod
    def of(cls, values: Iterable[float | None]) -> Figures:
        """Return the figures of the values that are known."""
        known = [value for value in values if value is not None]
        return cls(
            count=len(known),
            mean=sum(known) / len(known) if known else None,
            min=min(known, default=None),
            median=percentile(known, 50),
            p95=percentile(known, 95),
            max=max(known, default=None),
        )


@dataclass(frozen=True)
class Quality:
    """Similarity and word errors of a group of replies, or of a kind of reference.

    `word_error_rate` is of all words together, so that long texts weigh more. `mean_word_error_rate` is the mean of the
    replies' rates, as SEED-TTS-EVAL reports it.
    """

    name: str
    count: int
    similarity: Figures
    wrong: int
    words: int
    word_error_rate: float | None
    mean_word_error_rate: float | None
    own_is_nearest: float | None = None
    """Share of the replies that are most similar to their own voice. None: there is one voice, or it is not known."""


@dataclass(frozen=True)
class Summary:
    """The figures of an evaluation. `errors` counts failed pairs by status, with the message of the first of each."""

    pairs: int
    replies: int
    errors: Mapping[str, int]
    messages: Mapping[str, str]
    ended: Mapping[str, int]
    """Replies by the reason why their sound ended."""
    overall: Quality
    by_voice: Sequence[Quality]
    references: Sequence[Quality]
    missing: Mapping[str, str]
    """Reference points that are not available, with the reason."""
    sound: Mapping[str, Figures] = field(default_factory=dict)
    waits: Mapping[str, Figures] = field(default_factory=dict)

    @property
    def failed(self) -> int:
        """Number of pairs without a reply."""
        return sum(self.errors.values())

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as JSON has them."""
        return asdict(self) | {"failed": self.failed}


def summarise(pairs: int, records: Sequence[ReplyRecord], references: References) -> Summary:
    """Return the figures of the replies to some of so many pairs."""
    heard = [record for record in records if record.is_reply]
    failed = [record for record in records if not record.is_reply]
    voices = sorted({record.voice for record in heard})
    sounds = [record.sound for record in heard if record.sound is not None]
    return Summary(
        pairs=pairs,
        replies=len(heard),
        errors=dict(Counter(record.status for record in failed).most_common()),
        messages={record.status: record.message for record in reversed(failed)},
        ended=dict(Counter(record.ended or "not told" for record in heard).most_common()),
        overall=_quality("all replies", heard),
        by_voice=[_quality(voice, [record for record in heard if record.voice == voice]) for voice in voices],
        references=[
            _of_references(name, [one for one in references.found if one.kind == kind])
            for kind, name in REFERENCES.items()
            if kind not in references.missing
        ],
        missing={REFERENCES[kind]: reason for kind, reason in references.missing.items()},
        sound={name: Figures.of(_field(sounds, name)) for name in (*SOUND, *LEVELS)},
        waits={
            name: Figures.of([getattr(record, name) for record in heard])
            for name in ("first_sound_s", "first_piece_s", "real_time_factor")
        },
    )


def _field(sounds: Sequence[SoundStatistics], name: str) -> list[float]:
    return [getattr(sound, name) for sound in sounds]


def _quality(name: str, records: Sequence[ReplyRecord]) -> Quality:
    compared = [record for record in records if record.similarity is not None and len(record.cosines) != 1]
    known = [record for record in records if record.words]
    return Quality(
        name=name,
        count=len(records),
        similarity=Figures.of([record.similarity for record in records]),
        wrong=(wrong := sum(record.wrong or 0 for record in known)),
        words=(words := sum(record.words or 0 for record in known)),
        word_error_rate=wrong / words if words else None,
        mean_word_error_rate=Figures.of([record.word_error_rate for record in known]).mean,
        own_is_nearest=sum(record.nearest == record.voice for record in compared) / len(compared) if compared else None,
    )


def _of_references(name: str, references: Sequence[Reference]) -> Quality:
    known = [one for one in references if one.words]
    wrong, words = sum(one.wrong or 0 for one in known), sum(one.words or 0 for one in known)
    rates = [(one.wrong or 0) / one.words for one in known if one.words]
    return Quality(
        name=name,
        count=len(references),
        similarity=Figures.of([one.similarity for one in references]),
        wrong=wrong,
        words=words,
        word_error_rate=wrong / words if words else None,
        mean_word_error_rate=Figures.of(rates).mean,
    )
