"""Some chunks through the audio tower, as one step of a fixed shape (docs/model.md, section 7).

On CUDA chunks are filled up to their full 2 s and steps to a few numbers of chunks, which are captured: the tower's
32 layers take the host far longer to launch than the device to compute. Elsewhere a step has the shape it has.
"""

from __future__ import annotations

import torch
from torch import Tensor

from services.reasoner.model.audio_tower import AudioTower, audio_rows
from services.runtime.graphs.graphs import StepGraphs, bucket_of, buckets
from services.runtime.graphs.staging import Block

MAX_CHUNKS = 8


class TowerStep:
    """Steps of up to `MAX_CHUNKS` chunks; more go through the tower as they are.

    Args:
        graphs: where the captured steps are kept.
        padded: whether steps are filled up.
    """

    def __init__(self, tower: AudioTower, graphs: StepGraphs, *, padded: bool) -> None:
        self._tower = tower
        self.graphs = graphs
        self._padded = padded
        if padded:
            weight = tower.conv1.weight
            self._shape = (MAX_CHUNKS, tower.chunk_frames, tower.mel_bins)
            self._mel = Block(MAX_CHUNKS * tower.chunk_frames * tower.mel_bins, weight.dtype, weight.device)
            self._frames = Block(MAX_CHUNKS, torch.int64, weight.device)
            rows = audio_rows(tower.chunk_frames)
            self._rows = torch.zeros(MAX_CHUNKS, rows, tower.output_width, dtype=weight.dtype, device=weight.device)

    @torch.inference_mode()
    def __call__(self, chunks: list[Tensor]) -> list[Tensor]:
        """As `AudioTower.forward`."""
        if not self._padded or len(chunks) > MAX_CHUNKS:
            return self._tower(chunks)
        bucket = bucket_of(len(chunks), buckets(MAX_CHUNKS))
        mel, frames = self._mel.host.view(self._shape), self._frames.host
        frames[:bucket] = self._tower.chunk_frames
        for place, chunk in enumerate(chunks):
            frames[place] = len(chunk)
            mel[place, : len(chunk)].copy_(chunk)
            mel[place, len(chunk) :] = 0.0
        self._send(bucket)
        self.graphs.run(("tower", bucket), lambda: self._step(bucket))
        rows = self._rows[: len(chunks)].clone()
        return [rows[place, : audio_rows(len(chunk))] for place, chunk in enumerate(chunks)]

    @torch.inference_mode()
    def capture(self) -> None:
        """Capture a step of every number of chunks. Does nothing where steps are not padded."""
        if self._padded:
            self._frames.host[:] = self._tower.chunk_frames
            for bucket in reversed(buckets(MAX_CHUNKS)):
                self._send(bucket)
                self.graphs.capture(("tower", bucket), lambda bucket=bucket: self._step(bucket))

    def _send(self, bucket: int) -> None:
        self._mel.send(bucket * self._shape[1] * self._shape[2])
        self._frames.send(bucket)

    def _step(self, bucket: int) -> None:
        """Nothing here may depend on anything but the bucket, or ask the device for a value."""
        mel = self._mel.there.view(self._shape)[:bucket]
        self._rows[:bucket] = self._tower.encode_padded(mel, self._frames.there[:bucket])
