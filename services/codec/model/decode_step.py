"""A decode step of a fixed shape over many streams: B streams by T frames (docs/model.md, section 6).

On CUDA B is rounded up to a few widths and each shape is captured; elsewhere steps have the shape they have.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from services.codec.model.decode import Decoder
from services.common.wire.audio import CODEBOOKS, FRAME_SAMPLES
from services.runtime.graphs.graphs import StepGraphs, bucket_of, buckets
from services.runtime.graphs.staging import Block, StagingBuffer


class DecodeStep:
    """Steps of up to `width` streams by one frame, or fewer streams by more frames, at most `step_frames`.

    `state` is the memory of all streams, with one place more than there are `slots` when steps are padded: the slot of
    padding. `padded`: whether widths are rounded up; unset: on CUDA.
    """

    def __init__(
        self,
        decoder: Decoder,
        device: torch.device,
        *,
        slots: int,
        width: int,
        step_frames: int,
        padded: bool | None = None,
    ) -> None:
        self._padded = device.type == "cuda" if padded is None else padded
        self.graphs = StepGraphs(device)
        self.slots = slots
        self.state = decoder.new_state(slots + self._padded, step_frames)
        self._decoder = decoder
        self._width = width
        self._step_frames = step_frames
        most_frames = max(width, step_frames)
        self._block = Block(width + most_frames * CODEBOOKS, torch.int64, device)
        self._pcm = torch.zeros(most_frames * FRAME_SAMPLES, device=device)

    def __call__(self, codes: np.ndarray, slots: Sequence[int]) -> np.ndarray:
        """The next T frames of the streams in `slots`: codes [B, T, K] int64 -> PCM [B, T * 1920] float32."""
        streams, frames, _ = codes.shape
        inputs = self._inputs(self._rounded(streams, frames), frames)
        inputs.host["slots"][:streams] = slots
        inputs.host["codes"][:streams] = codes
        self._pad(inputs, streams)
        self.graphs.run((inputs.host["slots"].shape[0], frames), lambda: self._step(inputs))
        samples = frames * FRAME_SAMPLES
        return self._pcm[: streams * samples].cpu().numpy().reshape(streams, samples).copy()

    def capture(self) -> None:
        """Capture a step of every shape, the largest first. Does nothing where steps are not padded."""
        if not self._padded:
            return
        for frames in (1 << power for power in range(self._step_frames.bit_length())):
            for streams in reversed(self._widths(frames)):
                inputs = self._inputs(streams, frames)
                self._pad(inputs, 0)
                self.graphs.capture((streams, frames), lambda inputs=inputs: self._step(inputs))

    def _widths(self, frames: int) -> list[int]:
        return buckets(max(1, self._width // frames))

    def _rounded(self, streams: int, frames: int) -> int:
        return bucket_of(streams, self._widths(frames)) if self._padded else streams

    def _inputs(self, streams: int, frames: int) -> StagingBuffer:
        return StagingBuffer(self._block, slots=(streams,), codes=(streams, frames, CODEBOOKS))

    def _pad(self, inputs: StagingBuffer, streams: int) -> None:
        inputs.host["slots"][streams:] = self.slots
        inputs.host["codes"][streams:] = 0
        inputs.send()

    def _step(self, inputs: StagingBuffer) -> None:
        there = inputs.there
        pcm = self._decoder.step(there["codes"], there["slots"], self.state)
        self._pcm[: pcm.numel()] = pcm.flatten()
