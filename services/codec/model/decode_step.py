"""A decode step over many streams: B streams by T frames (docs/model.md, section 6)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from services.codec.model.decode import Decoder
from services.common.wire.audio import CODEBOOKS, FRAME_SAMPLES
from services.runtime.graphs.captured_step import CapturedStep
from services.runtime.graphs.graphs import StepGraphs, bucket_of, buckets
from services.runtime.graphs.staging import Field, Fields


class StepShape(NamedTuple):
    """B streams by T frames."""

    streams: int
    frames: int


class DecodeStep:
    """Steps of up to `width` streams by one frame, or fewer streams by more frames, at most `step_frames`.

    `state` is the memory of all streams. Padded steps have one slot more than `slots`: the slot of padding.
    `padded`: whether steps are rounded up to a few shapes. Unset: on CUDA.
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
        self.graphs = StepGraphs(device, padded=padded)
        self.slots = slots
        self._decoder = decoder
        self._width = width
        frame_counts = [1 << power for power in range(step_frames.bit_length())]
        self._step = CapturedStep(
            "decode",
            self.graphs,
            shapes=[
                StepShape(streams, frames) for frames in frame_counts for streams in reversed(self._widths(frames))
            ],
            fields=self._fields,
        )
        self.state = decoder.new_state(slots + self.graphs.padded, step_frames)
        self._pcm = torch.zeros(max(width, step_frames) * FRAME_SAMPLES, device=device)

    def __call__(self, codes: np.ndarray, slots: Sequence[int]) -> np.ndarray:
        """The next T frames of the streams in `slots`: codes [B, T, K] int64 -> PCM [B, T * 1920] float32."""
        streams, frames, _ = codes.shape
        width = bucket_of(streams, self._widths(frames)) if self.graphs.padded else streams
        shape = StepShape(width, frames)
        inputs = self._step.inputs(shape)
        inputs.fill(slots=slots, codes=codes)
        self._step.run(shape, inputs, self._compute)
        samples = frames * FRAME_SAMPLES
        return self._pcm[: streams * samples].cpu().numpy().reshape(streams, samples).copy()

    def capture(self) -> None:
        """Capture a step of every shape. Does nothing where steps are not padded."""
        self._step.capture(self._compute)

    def _widths(self, frames: int) -> list[int]:
        return buckets(max(1, self._width // frames))

    def _fields(self, shape: StepShape) -> Fields:
        return {
            "slots": Field((shape.streams,), padding=self.slots),
            "codes": Field((shape.streams, shape.frames, CODEBOOKS)),
        }

    def _compute(self, shape: StepShape, inputs: Mapping[str, Tensor]) -> None:
        pcm = self._decoder.step(inputs["codes"], inputs["slots"], self.state)
        self._pcm[: pcm.numel()] = pcm.flatten()
