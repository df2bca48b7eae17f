"""Exact incremental hearing: a clip heard piece by piece gives what the whole clip gives (docs/model.md, section 7).

Mel frames are computed as their samples arrive, a tower chunk (2 s) at a time. The spectrogram is clamped at the
clip's loudest bin minus 8, so a louder part that comes later raises the floor under chunks already encoded. Only a
chunk with a bin below the new floor really changes; it is stale again, and is encoded once more.

    state = HearingState(mel, chunk_frames)
    for pcm in microphone:
        for index in state.append(pcm):              # chunks that are new, or changed
            state.keep(index, tower([state.features(index)])[0])
    for index in state.finish(): ...                 # the last, shorter chunk, and what it changed
    rows = torch.cat([chunk.rows for chunk in state.chunks])
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from services.reasoner.model.audio_tower import audio_rows
from services.reasoner.model.mel import (
    CLAMP_DECADES,
    HOP_SAMPLES,
    N_FFT,
    SILENCE,
    MelFilters,
    log_mel,
    scaled,
    valid_frames,
)

_REACH = N_FFT // 2
"""Samples that a frame sees on either side of its centre."""


@dataclass
class HeardChunk:
    """Up to 2 s of a clip."""

    log_mel: torch.Tensor
    """[T, bins], before the clamp."""
    lowest: float
    """The smallest bin of `log_mel`: a floor above it changes this chunk."""
    rows: torch.Tensor | None = None
    """The tower's output [audio_rows(T), D], as of `encoded_floor`."""
    encoded_floor: float = float("-inf")
    held: bool = False
    """Whether nobody will ask for the rows: what is made of them is held already."""

    @property
    def row_count(self) -> int:
        """Thinker rows of this chunk."""
        return audio_rows(self.log_mel.shape[0])

    def is_stale(self, floor: float) -> bool:
        """Whether the rows are missing, or would be others under `floor`."""
        if self.row_count == 0 or self.held:
            return False
        return self.rows is None or (floor > self.encoded_floor and floor > self.lowest)


class HearingState:
    """One clip being heard. Owned by one stream; dropped with it.

    Memory: the clip's log-mel, 51 kB a second, and the tower's rows.
    """

    def __init__(self, mel: MelFilters, chunk_frames: int, *, held_rows: int = 0) -> None:
        """`held_rows`: leading rows that nobody will ask for."""
        self.chunks: list[HeardChunk] = []
        self.samples = 0
        self.finished = False
        self.redone_chunks = 0
        """Chunks encoded again because a later, louder part changed them."""
        self._mel = mel
        self._chunk_frames = chunk_frames
        self._held_rows = held_rows
        self._loudest = float("-inf")
        self._pieces: list[torch.Tensor] = []
        self._held = torch.zeros(0)  # samples not yet behind a frame, the left reflection included
        self._held_samples = 0  # of `_held` and `_pieces` together
        self._reflected = False

    @property
    def floor(self) -> float:
        """Bins below are raised to this; it only ever rises."""
        return self._loudest - CLAMP_DECADES

    @property
    def is_silent(self) -> bool:
        """Whether nothing heard so far rises above the spectrogram's own lower bound."""
        return self._loudest <= SILENCE

    def append(self, pcm: torch.Tensor) -> list[int]:
        """Hear more. `pcm`: float32 [S] at 16 kHz, any length.

        Returns the chunks to encode, in order, whenever a chunk is completed: only then the floor may move.
        """
        assert not self.finished, "append after finish"
        assert (pcm.ndim, pcm.dtype) == (1, torch.float32), f"expected float32 [S], got {pcm.dtype} {list(pcm.shape)}"
        self.samples += pcm.shape[0]
        self._held_samples += pcm.shape[0]
        self._pieces.append(pcm)
        if not self._reflected and self.samples > _REACH:
            self._reflect()
        window_samples = (self._chunk_frames - 1) * HOP_SAMPLES + N_FFT
        chunks_before = len(self.chunks)
        while self._reflected and self._held_samples >= window_samples:
            self._add_frames(log_mel(self._join()[:window_samples], self._mel), self._chunk_frames)
            self._drop(self._chunk_frames * HOP_SAMPLES)
        return self.stale() if len(self.chunks) > chunks_before else []

    def finish(self) -> list[int]:
        """The clip has ended; zeros follow it. Returns the chunks to encode now, in order."""
        assert not self.finished, "finish twice"
        self.finished = True
        if self.samples == 0:
            return []
        valid = valid_frames(self.samples) - len(self.chunks) * self._chunk_frames
        self._pieces.append(torch.zeros(2 * N_FFT))  # frames past the last valid one still hear its end: they count
        if not self._reflected:
            self._reflect()
        self._add_frames(log_mel(self._join(), self._mel), valid)
        self._pieces, self._held = [], torch.zeros(0)
        return self.stale()

    def stale(self) -> list[int]:
        """Chunks whose rows are missing, or no longer what the clip so far gives."""
        floor = self.floor
        return [index for index, chunk in enumerate(self.chunks) if chunk.is_stale(floor)]

    def features(self, index: int) -> torch.Tensor:
        """What the tower sees of a chunk under the present floor: [T, bins] float32."""
        return scaled(self.chunks[index].log_mel, self.floor)

    def keep(self, index: int, rows: torch.Tensor) -> None:
        """Store the tower's rows for `features(index)`, taken under the present floor."""
        chunk = self.chunks[index]
        assert rows.shape[0] == chunk.row_count, f"expected {chunk.row_count} rows, got {tuple(rows.shape)}"
        if chunk.rows is not None:
            self.redone_chunks += 1
        chunk.rows = rows
        chunk.encoded_floor = self.floor

    def _add_frames(self, frames: torch.Tensor, valid: int) -> None:
        """Chunks of the first `valid` of `frames`; the rest only have their say in the clip's loudest bin."""
        self._loudest = max(self._loudest, float(frames.max()))
        for chunk in frames[:valid].split(self._chunk_frames):
            self.chunks.append(HeardChunk(chunk, float(chunk.min())))
            self._held_rows -= self.chunks[-1].row_count
            self.chunks[-1].held = self._held_rows >= 0

    def _reflect(self) -> None:
        """Put the clip's mirrored beginning before it."""
        clip = self._join()
        self._held = torch.cat([clip[1 : _REACH + 1].flip(0), clip])
        self._held_samples = self._held.shape[0]
        self._reflected = True

    def _join(self) -> torch.Tensor:
        if self._pieces:
            self._held = torch.cat([self._held, *self._pieces])
            self._pieces = []
        return self._held

    def _drop(self, samples: int) -> None:
        self._held = self._join()[samples:].clone()
        self._held_samples -= samples
