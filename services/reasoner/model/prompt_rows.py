"""The rows of one prompt, as they become known: embedded tokens, and audio as it is heard (docs/model.md, section 7).

Rows are only ever added at the end, but a louder part of the clip being heard may change earlier rows of that clip.
`settled` says how many leading rows stand: keys and values beyond it are thrown away and made again.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass

import torch

from services.common.errors import InvalidArgument, OutOfRange
from services.reasoner.model.hearing import HearingState
from services.reasoner.model.identity import ClipDigest
from services.reasoner.model.mel import MAX_CLIP_SAMPLES, MelFilters


@dataclass(frozen=True)
class StaleChunk:
    """A chunk of audio that the tower must encode, for the first time or again."""

    clip: HearingState
    index: int


@dataclass(frozen=True)
class _Segment:
    """A run of rows: tokens, or one chunk of a clip."""

    first_row: int
    row_count: int
    ids: list[int]
    clip: HearingState | None = None
    chunk: int = 0

    @property
    def is_settled(self) -> bool:
        return self.clip is None or not self.clip.chunks[self.chunk].is_stale(self.clip.floor)


class PromptRows:
    """A growing prompt. Owned by one stream.

    Args:
        embedding: [vocab, D], the thinker's token embeddings, in the compute dtype.
        mel: filters for the audio.
        chunk_frames: mel frames of a full chunk of the tower.
    """

    def __init__(self, embedding: torch.Tensor, mel: MelFilters, chunk_frames: int) -> None:
        self.clips: list[HearingState] = []
        self.identities: list[int] = []
        """Of the rows so far, up to a clip that is not complete."""
        self.held = 0
        """Leading rows whose keys and values are held already: nobody will ask for them. Set before any is added."""
        self.settled = 0
        """Leading rows that are known and current; ready to prefill."""
        self.total = 0
        """Rows so far, whether settled or not."""
        self._embedding = embedding
        self._mel = mel
        self._chunk_frames = chunk_frames
        self._segments: list[_Segment] = []
        self._first_rows: list[int] = []
        self._clip_chunks = 0  # chunks of the present clip that have a segment
        self._clip_digest = ClipDigest()

    @property
    def samples(self) -> int:
        """Audio heard, in all clips."""
        return sum(clip.samples for clip in self.clips)

    @property
    def redone_chunks(self) -> int:
        """Chunks encoded again because a later part of their clip was louder."""
        return sum(clip.redone_chunks for clip in self.clips)

    def add_ids(self, ids: list[int]) -> None:
        """Add tokens. Raises InvalidArgument for an id outside the vocabulary."""
        vocab = self._embedding.shape[0]
        wrong = [token_id for token_id in ids if not 0 <= token_id < vocab]
        if wrong:
            raise InvalidArgument(f"token id {wrong[0]} is outside the vocabulary of {vocab}")
        if ids:
            self._add(_Segment(self.total, len(ids), ids))
            self.identities += ids
            self._settle()

    def add_held_clip(self, identities: list[int]) -> None:
        """Add a whole clip, all of whose rows are held: it is not heard."""
        assert self.total + len(identities) <= self.held, "the clip's rows are held"
        self._add(_Segment(self.total, len(identities), []))
        self.identities += identities
        self._settle()

    def begin_clip(self) -> None:
        """Start a clip after the rows so far. It must end before anything else is added."""
        self.clips.append(HearingState(self._mel, self._chunk_frames, held_rows=max(0, self.held - self.total)))
        self._clip_chunks = 0
        self._clip_digest = ClipDigest()

    def hear(self, pcm: torch.Tensor) -> None:
        """More of the present clip: float32 [S] at 16 kHz.

        Raises InvalidArgument for samples that are no numbers; OutOfRange for a clip longer than the mel's 300 s.
        """
        clip = self.clips[-1]
        if not torch.isfinite(pcm).all():
            raise InvalidArgument("audio samples must be finite numbers, found NaN or infinity")
        if clip.samples + pcm.shape[0] > MAX_CLIP_SAMPLES:
            raise OutOfRange(
                f"a recording may have {MAX_CLIP_SAMPLES} samples at 16000 Hz, "
                f"found {clip.samples + pcm.shape[0]} so far"
            )
        self._clip_digest.add(pcm)
        clip.append(pcm)
        self._add_chunks(clip)

    def end_clip(self) -> None:
        """The present clip is complete. Raises InvalidArgument when there is nothing in it to hear."""
        clip = self.clips[-1]
        clip.finish()
        self._add_chunks(clip)
        if not any(chunk.row_count for chunk in clip.chunks):
            raise InvalidArgument(f"a recording needs 321 samples at 16000 Hz or more, found {clip.samples}")
        if clip.is_silent:
            raise InvalidArgument(f"a recording is silent: its {clip.samples} samples carry no sound")
        self.identities += self._clip_digest.identities(self.total - len(self.identities))

    def stale_chunks(self) -> list[StaleChunk]:
        """What the tower must encode before all rows are settled, in order."""
        return [StaleChunk(clip, index) for clip in self.clips for index in clip.stale()]

    def keep(self, chunk: StaleChunk, rows: torch.Tensor) -> None:
        """Store the tower's rows of a stale chunk."""
        chunk.clip.keep(chunk.index, rows)
        self._settle()

    def rows(self, start: int, limit: int) -> torch.Tensor:
        """Settled rows from `start` on, at most `limit`: [R, D] in the compute dtype."""
        stop = min(start + limit, self.settled)
        place = bisect_right(self._first_rows, start) - 1
        parts: list[torch.Tensor] = []
        while start < stop:
            segment = self._segments[place]
            begin, end = start - segment.first_row, min(stop - segment.first_row, segment.row_count)
            if segment.clip is None:
                ids = torch.tensor(segment.ids[begin:end], device=self._embedding.device)
                parts.append(self._embedding[ids])
            else:
                heard = segment.clip.chunks[segment.chunk].rows
                assert heard is not None, "a settled chunk has rows"
                parts.append(heard[begin:end])
            start = segment.first_row + end
            place += 1
        return torch.cat(parts)

    def _add_chunks(self, clip: HearingState) -> None:
        if self._clip_chunks == len(clip.chunks):
            return
        for index in range(self._clip_chunks, len(clip.chunks)):
            self._add(_Segment(self.total, clip.chunks[index].row_count, [], clip, index))
        self._clip_chunks = len(clip.chunks)
        self._settle()

    def _add(self, segment: _Segment) -> None:
        if not segment.row_count:  # a last chunk may be too short for a row
            return
        self._segments.append(segment)
        self._first_rows.append(segment.first_row)
        self.total += segment.row_count

    def _settle(self) -> None:
        unsettled = (segment.first_row for segment in self._segments if not segment.is_settled)
        self.settled = max(self.held, next(unsettled, self.total))
