"""The input embeddings of one prompt, as they become known: tokens, and recordings while they arrive.

Positions are only ever added at the end, but a louder part of the recording in progress may change earlier positions
of it. `final` says how many leading positions stand. Keys and values of later positions are dropped and made again.
(docs/model.md, section 7)
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch

from services.common.errors import InvalidArgument, OutOfRange
from services.common.wire.audio import HEARING_RATE_HZ
from services.reasoner.model.clip import Clip
from services.reasoner.model.mel import MAX_CLIP_SAMPLES, MelFilters
from services.reasoner.model.parts import AudioPart, Piece

MAX_SAMPLES_PER_EDIT = 2 * HEARING_RATE_HZ
"""A longer piece of audio is cut into several edits, so that each takes a bounded time."""


@dataclass(frozen=True)
class AddTokens:
    """Append tokens."""

    ids: list[int]


@dataclass(frozen=True)
class AddCachedClip:
    """Append a whole recording whose positions are all in the KV cache, by their keys."""

    keys: list[int]


@dataclass(frozen=True)
class BeginClip:
    """Start a recording. It must end before anything else is added."""


@dataclass(frozen=True)
class AddSamples:
    """More of the present recording: float32 [S] at 16 kHz."""

    pcm: torch.Tensor


@dataclass(frozen=True)
class EndClip:
    """The present recording is complete."""


PromptEdit = AddTokens | AddCachedClip | BeginClip | AddSamples | EndClip


@dataclass(frozen=True)
class DirtyChunk:
    """A chunk of a recording that the tower must encode, for the first time or again."""

    clip: Clip
    index: int


@dataclass(frozen=True)
class _Segment:
    """A run of positions: tokens, or one chunk of a recording."""

    start: int
    length: int
    ids: list[int]
    clip: Clip | None = None
    chunk: int = 0

    @property
    def is_final(self) -> bool:
        return self.clip is None or not self.clip.chunks[self.chunk].is_dirty(self.clip.floor)


class PromptEmbeddings:
    """A growing prompt. One request owns it.

    Args:
        embedding: [vocab, D], the thinker's token embeddings, in the compute dtype. They may be on the host.
        mel: filters for the audio.
        chunk_frames: mel frames of a full chunk of the tower.
        device: where embeddings are computed with.
        cached: leading positions whose keys and values are in the KV cache. Their embeddings are never asked for.
    """

    def __init__(
        self,
        embedding: torch.Tensor,
        mel: MelFilters,
        chunk_frames: int,
        *,
        cached: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        self.clips: list[Clip] = []
        self.keys: list[int] = []
        """Cache keys of the positions so far, up to a recording that is not complete. A token's key is its id."""
        self.cached = cached
        self.final = cached
        """Leading positions that are known and current: ready to prefill."""
        self.length = 0
        """Positions so far, final or not."""
        self._embedding = embedding
        self._device = device
        self._mel = mel
        self._chunk_frames = chunk_frames
        self._segments: list[_Segment] = []
        self._starts: list[int] = []
        self._clip_chunks = 0  # chunks of the present recording that have a segment

    @property
    def recomputed_chunks(self) -> int:
        """Chunks encoded again because a later part of their recording was louder."""
        return sum(clip.recomputed_chunks for clip in self.clips)

    def apply(self, edit: PromptEdit) -> None:
        """Extend the prompt.

        Raises:
            InvalidArgument: an id outside the vocabulary, a sample that is not a finite number, a recording that is
                silent or too short for a position.
            OutOfRange: a recording longer than the 300 s of the mel.
        """
        match edit:
            case AddTokens(ids):
                self._add_tokens(ids)
            case AddCachedClip(keys):
                assert self.length + len(keys) <= self.cached, "all positions of the recording are cached"
                self._add(_Segment(self.length, len(keys), []))
                self.keys += keys
            case BeginClip():
                self.clips.append(Clip(self._mel, self._chunk_frames, cached=max(0, self.cached - self.length)))
                self._clip_chunks = 0
            case AddSamples(pcm):
                if not self._add_samples(self.clips[-1], pcm):
                    return  # the floor moves only with a new chunk
            case EndClip():
                self._end_clip(self.clips[-1])
        self._update_final()

    def dirty_chunks(self) -> list[DirtyChunk]:
        """Chunks that the tower must encode before all positions are final, in order."""
        return [DirtyChunk(clip, index) for clip in self.clips for index in clip.dirty()]

    def store(self, chunk: DirtyChunk, embeddings: torch.Tensor) -> None:
        """Store the tower's output for a dirty chunk."""
        chunk.clip.store(chunk.index, embeddings)
        self._update_final()

    def embeddings(self, start: int, limit: int) -> torch.Tensor:
        """Embeddings of final positions from `start` on, at most `limit`: [R, D] in the compute dtype."""
        stop = min(start + limit, self.final)
        place = bisect_right(self._starts, start) - 1
        parts: list[torch.Tensor] = []
        while start < stop:
            segment = self._segments[place]
            begin, end = start - segment.start, min(stop - segment.start, segment.length)
            if segment.clip is None:
                ids = torch.tensor(segment.ids[begin:end], device=self._embedding.device)
                parts.append(self._embedding[ids].to(self._device))
            else:
                encoded = segment.clip.chunks[segment.chunk].embeddings
                assert encoded is not None, "a final chunk has embeddings"
                parts.append(encoded[begin:end])
            start = segment.start + end
            place += 1
        return torch.cat(parts)

    def _add_tokens(self, ids: list[int]) -> None:
        vocab = self._embedding.shape[0]
        wrong = [token_id for token_id in ids if not 0 <= token_id < vocab]
        if wrong:
            raise InvalidArgument(f"token id {wrong[0]} is outside the vocabulary of {vocab}")
        self._add(_Segment(self.length, len(ids), ids))
        self.keys += ids

    def _add_samples(self, clip: Clip, pcm: torch.Tensor) -> bool:
        """Whether a chunk was completed."""
        if not torch.isfinite(pcm).all():
            raise InvalidArgument("audio samples must be finite numbers, found NaN or infinity")
        if clip.samples + pcm.shape[0] > MAX_CLIP_SAMPLES:
            raise OutOfRange(
                f"a recording may have {MAX_CLIP_SAMPLES} samples at 16000 Hz, "
                f"found {clip.samples + pcm.shape[0]} so far"
            )
        clip.append(pcm)
        return self._add_chunks(clip)

    def _end_clip(self, clip: Clip) -> None:
        clip.finish()
        self._add_chunks(clip)
        if not any(chunk.length for chunk in clip.chunks):
            raise InvalidArgument(f"a recording needs 321 samples at 16000 Hz or more, found {clip.samples}")
        if clip.is_silent:
            raise InvalidArgument(f"a recording is silent: its {clip.samples} samples carry no sound")
        self.keys += clip.digest.keys(self.length - len(self.keys))

    def _add_chunks(self, clip: Clip) -> bool:
        if self._clip_chunks == len(clip.chunks):
            return False
        for index in range(self._clip_chunks, len(clip.chunks)):
            self._add(_Segment(self.length, clip.chunks[index].length, [], clip, index))
        self._clip_chunks = len(clip.chunks)
        return True

    def _add(self, segment: _Segment) -> None:
        if not segment.length:  # the last chunk may be too short for a position
            return
        self._segments.append(segment)
        self._starts.append(segment.start)
        self.length += segment.length

    def _update_final(self) -> None:
        dirty = (segment.start for segment in self._segments if not segment.is_final)
        self.final = max(self.cached, next(dirty, self.length))


def edits_of(parts: Iterable[Piece | PromptEdit], cached: int = 0) -> Iterator[PromptEdit]:
    """The edits that append `parts`. The KV cache holds the first `cached` of their positions."""
    for part in parts:
        if isinstance(part, AudioPart):
            cached -= len(part.keys)
            if cached >= 0:
                yield AddCachedClip(part.keys)
            else:
                yield BeginClip()
                yield from samples_of(part.pcm)
                yield EndClip()
        elif isinstance(part, list):
            cached -= len(part)
            yield AddTokens(part)
        else:
            yield part


def samples_of(pcm: torch.Tensor) -> Iterator[AddSamples]:
    """A piece of the present recording, cut into edits of a bounded size."""
    return (AddSamples(part) for part in pcm.split(MAX_SAMPLES_PER_EDIT))
