"""One recording, encoded while it arrives. The result is that of the whole recording at once.

Mel frames are computed as their samples arrive, one tower chunk (2 s) at a time. The spectrogram is clamped at the
recording's loudest bin minus 8 decades. A louder part that comes later raises this floor under chunks that are already
encoded. Only a chunk with a bin below the new floor really changes: it is dirty again, and the tower encodes it once
more. (docs/model.md, section 7)

    clip = Clip(mel, chunk_frames)
    for pcm in microphone:
        clip.append(pcm)
        for index in clip.dirty():                   # chunks that are new, or changed
            clip.store(index, tower([clip.features(index)])[0])
    clip.finish()                                    # adds the last, shorter chunk; chunks may be dirty again
    embeddings = torch.cat([chunk.embeddings for chunk in clip.chunks])
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b

import torch

from services.common.wire.audio import MEL_HOP_SAMPLES, tokens_of_mel_frames
from services.reasoner.model.mel import (
    CLAMP_DECADES,
    EMPTY_BIN_LOG_MEL,
    N_FFT,
    MelFilters,
    log_mel,
    scaled,
    valid_frames,
)

_REACH = N_FFT // 2
"""Samples that a frame sees on either side of its centre."""

_POSITION_BITS = 32
"""Token ids and positions are smaller than this many bits. A digest is shifted above them."""


class ClipDigest:
    """The digest of a recording, fed piece by piece, and the cache keys of its positions.

    The clamp of the mel ties every position to the whole recording and to nothing else. So a position's key is the
    digest of all samples with the position's number. Equal recordings have equal keys.
    """

    def __init__(self) -> None:
        self._hash = blake2b(digest_size=16)

    def add(self, pcm: torch.Tensor) -> None:
        """Add samples: float32 [S] at 16 kHz."""
        self._hash.update(pcm.contiguous().numpy().data)

    def keys(self, count: int) -> list[int]:
        """Keys of the recording's `count` positions, in order."""
        first = int.from_bytes(self._hash.digest()) << _POSITION_BITS
        return list(range(first, first + count))


def clip_keys(pcm: torch.Tensor) -> list[int]:
    """Cache keys of a whole recording's positions. `pcm`: float32 [S] at 16 kHz."""
    digest = ClipDigest()
    digest.add(pcm)
    return digest.keys(tokens_of_mel_frames(valid_frames(pcm.shape[0])))


@dataclass
class ClipChunk:
    """Up to 2 s of a recording."""

    log_mel: torch.Tensor
    """[T, bins], before the clamp."""
    lowest: float
    """The smallest bin of `log_mel`. A floor above it changes this chunk."""
    embeddings: torch.Tensor | None = None
    """The tower's output [tokens_of_mel_frames(T), D], computed under `encoded_floor`."""
    encoded_floor: float = float("-inf")
    cached: bool = False
    """Whether the KV cache holds all positions of this chunk: its embeddings are not needed."""

    @property
    def length(self) -> int:
        """Positions of the prompt that this chunk takes."""
        return tokens_of_mel_frames(self.log_mel.shape[0])

    def is_dirty(self, floor: float) -> bool:
        """Whether the embeddings are missing, or would change under `floor`."""
        if self.length == 0 or self.cached:
            return False
        return self.embeddings is None or (floor > self.encoded_floor and floor > self.lowest)


class Clip:
    """One recording of a prompt. One request owns it and drops it.

    Memory: the log-mel, 51 kB a second, and the tower's embeddings.
    """

    def __init__(self, mel: MelFilters, chunk_frames: int, *, cached: int = 0) -> None:
        """`cached`: leading positions that the KV cache holds. Chunks inside them are not encoded."""
        self.chunks: list[ClipChunk] = []
        self.samples = 0
        self.finished = False
        self.recomputed_chunks = 0
        """Chunks that were encoded again because a later, louder part changed them."""
        self.digest = ClipDigest()
        self._mel = mel
        self._chunk_frames = chunk_frames
        self._cached_left = cached
        self._loudest = float("-inf")
        self._pieces: list[torch.Tensor] = []
        self._pending = torch.zeros(0)  # samples that are not yet behind a frame, with the reflection before the clip
        self._pending_samples = 0  # of `_pending` and `_pieces` together
        self._reflected = False

    @property
    def floor(self) -> float:
        """The clamp: lower bins are raised to it. It never falls."""
        return self._loudest - CLAMP_DECADES

    @property
    def is_silent(self) -> bool:
        """Whether no bin so far rises above the spectrogram's own lower bound."""
        return self._loudest <= EMPTY_BIN_LOG_MEL

    def append(self, pcm: torch.Tensor) -> None:
        """Add samples: float32 [S] at 16 kHz, of any length. The floor moves only when a chunk is completed."""
        assert not self.finished, "append after finish"
        assert (pcm.ndim, pcm.dtype) == (1, torch.float32), f"expected float32 [S], got {pcm.dtype} {list(pcm.shape)}"
        self.digest.add(pcm)
        self.samples += pcm.shape[0]
        self._pending_samples += pcm.shape[0]
        self._pieces.append(pcm)
        if not self._reflected and self.samples > _REACH:
            self._reflect()
        window_samples = (self._chunk_frames - 1) * MEL_HOP_SAMPLES + N_FFT
        while self._reflected and self._pending_samples >= window_samples:
            self._add_frames(log_mel(self._join()[:window_samples], self._mel), self._chunk_frames)
            self._drop(self._chunk_frames * MEL_HOP_SAMPLES)

    def finish(self) -> None:
        """End the recording. Zeros follow it, as in the reference."""
        assert not self.finished, "finish twice"
        self.finished = True
        if self.samples == 0:
            return
        valid = valid_frames(self.samples) - len(self.chunks) * self._chunk_frames
        self._pieces.append(torch.zeros(2 * N_FFT))  # frames past the last valid one still see its end
        if not self._reflected:
            self._reflect()
        self._add_frames(log_mel(self._join(), self._mel), valid)
        self._pieces, self._pending = [], torch.zeros(0)

    def dirty(self) -> list[int]:
        """Indexes of the chunks that the tower must encode, in order: new ones, and those that the floor changed."""
        floor = self.floor
        return [index for index, chunk in enumerate(self.chunks) if chunk.is_dirty(floor)]

    def features(self, index: int) -> torch.Tensor:
        """The tower's input for a chunk under the present floor: [T, bins] float32."""
        return scaled(self.chunks[index].log_mel, self.floor)

    def store(self, index: int, embeddings: torch.Tensor) -> None:
        """Store the tower's output for `features(index)` under the present floor."""
        chunk = self.chunks[index]
        assert embeddings.shape[0] == chunk.length, f"expected {chunk.length} embeddings, got {tuple(embeddings.shape)}"
        if chunk.embeddings is not None:
            self.recomputed_chunks += 1
        chunk.embeddings = embeddings
        chunk.encoded_floor = self.floor

    def _add_frames(self, frames: torch.Tensor, valid: int) -> None:
        """Make chunks of the first `valid` of `frames`. The others count only for the loudest bin."""
        self._loudest = max(self._loudest, float(frames.max()))
        for chunk in frames[:valid].split(self._chunk_frames):
            self.chunks.append(ClipChunk(chunk, float(chunk.min())))
            self._cached_left -= self.chunks[-1].length
            self.chunks[-1].cached = self._cached_left >= 0

    def _reflect(self) -> None:
        """Put the mirrored beginning of the recording before it."""
        clip = self._join()
        self._pending = torch.cat([clip[1 : _REACH + 1].flip(0), clip])
        self._pending_samples = self._pending.shape[0]
        self._reflected = True

    def _join(self) -> torch.Tensor:
        if self._pieces:
            self._pending = torch.cat([self._pending, *self._pieces])
            self._pieces = []
        return self._pending

    def _drop(self, samples: int) -> None:
        self._pending = self._join()[samples:].clone()
        self._pending_samples -= samples
