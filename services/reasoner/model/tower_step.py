"""Some chunks through the audio tower as one step (docs/model.md, section 7).

Padded steps fill each chunk up to its full 2 s, and have one of a few numbers of chunks.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from services.common.wire.audio import tokens_of_mel_frames
from services.reasoner.model.audio_tower import AudioTower
from services.runtime.graphs.captured_step import CapturedStep
from services.runtime.graphs.graphs import StepGraphs, bucket_of, buckets
from services.runtime.graphs.staging import Field, Fields

MAX_CHUNKS = 8


class TowerStep:
    """Steps of up to `MAX_CHUNKS` chunks. More chunks go through the tower as they are.

    `graphs` keeps the captured steps and says whether steps are padded.
    """

    def __init__(self, tower: AudioTower, graphs: StepGraphs) -> None:
        self._tower = tower
        self.graphs = graphs
        self._counts = buckets(MAX_CHUNKS)
        self._step = CapturedStep("tower", graphs, shapes=self._counts[::-1], fields=self._fields)
        if graphs.padded:
            weight, rows = tower.conv1.weight, tokens_of_mel_frames(tower.chunk_frames)
            self._rows = torch.zeros(MAX_CHUNKS, rows, tower.output_width, dtype=weight.dtype, device=weight.device)

    @torch.inference_mode()
    def __call__(self, chunks: list[Tensor]) -> list[Tensor]:
        """As `AudioTower.forward`."""
        if not self.graphs.padded or len(chunks) > MAX_CHUNKS:
            return self._tower(chunks)
        count = bucket_of(len(chunks), self._counts)
        inputs = self._step.inputs(count)
        inputs.fill(frames=[len(chunk) for chunk in chunks])
        for mel, chunk in zip(inputs.host("mel"), chunks, strict=False):
            mel[: len(chunk)].copy_(chunk)
            mel[len(chunk) :] = 0.0
        self._step.run(count, inputs, self._compute)
        rows = self._rows[: len(chunks)].clone()
        return [rows[place, : tokens_of_mel_frames(len(chunk))] for place, chunk in enumerate(chunks)]

    def capture(self) -> None:
        """Capture a step of every number of chunks. Does nothing where steps are not padded."""
        self._step.capture(self._compute)

    def _fields(self, chunks: int) -> Fields:
        tower = self._tower
        return {
            "mel": Field((chunks, tower.chunk_frames, tower.mel_bins), tower.conv1.weight.dtype, padding=None),
            "frames": Field((chunks,), padding=tower.chunk_frames),
        }

    def _compute(self, chunks: int, inputs: Mapping[str, Tensor]) -> None:
        self._rows[:chunks] = self._tower.encode_padded(inputs["mel"], inputs["frames"])
