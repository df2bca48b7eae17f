"""Some rows of prompts through a stack as one step (docs/model.md, section 1).

Padded steps have one of a few numbers of rows. On CUDA an eager pass of the thinker takes the host five times as long
to launch as the device to compute.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from services.runtime.graphs.captured_step import CapturedStep
from services.runtime.graphs.graphs import StepGraphs, bucket_of, buckets
from services.runtime.graphs.staging import Fields
from services.runtime.kvcache.attention import prompt_block_rows
from services.runtime.kvcache.attention_padded import PaddedAttention, PaddedShape
from services.runtime.kvcache.attention_ragged import RaggedAttention
from services.runtime.kvcache.paged_kv import PagedKV
from services.runtime.layers.transformer import AttentionBackend

MAX_ROWS = 256
MIN_ROWS = 16
MAX_STREAMS = 32

Forward = Callable[[Tensor, AttentionBackend], Tensor]
"""Rows [R, D] and their attention -> hidden [R, D] after the final norm."""


class PromptStep:
    """The prompts of all streams of `kv`.

    A step of more than `MAX_ROWS` rows or `MAX_STREAMS` streams is never padded. `graphs` keeps the captured steps and
    says whether the others are.
    """

    def __init__(self, kv: PagedKV, graphs: StepGraphs) -> None:
        self._kv = kv
        self.graphs = graphs
        self._counts = [count for count in buckets(MAX_ROWS) if count >= MIN_ROWS]
        self._step = CapturedStep("prompt", graphs, shapes=self._counts[::-1], fields=self._fields)
        if graphs.padded:
            self._rows, self._hidden = (
                torch.zeros(MAX_ROWS, kv.config.width, dtype=kv.k.dtype, device=kv.k.device) for _ in range(2)
            )

    @torch.inference_mode()
    def __call__(self, stack: Forward, rows: Sequence[Tensor], ragged: RaggedAttention) -> Tensor:
        """`rows`, each [n, D], one after the other in the order of `ragged` -> hidden [R, D] after the final norm.

        The result is valid until the next call. `stack` must be the same in every call.
        """
        count = sum(map(len, rows))
        if not self.graphs.padded or count > MAX_ROWS or ragged.streams > MAX_STREAMS:
            return stack(torch.cat(list(rows)), ragged)
        bucket = bucket_of(count, self._counts)
        inputs = self._step.inputs(bucket)
        inputs.fill(**self._shape(bucket).arrays(ragged))
        torch.cat(list(rows), out=self._rows[:count])
        self._step.run(bucket, inputs, self._computed_by(stack))
        return self._hidden[:count]

    def capture(self, stack: Forward) -> None:
        """Capture a step of every number of rows. Does nothing where steps are not padded."""
        self._step.capture(self._computed_by(stack))

    def _shape(self, bucket: int) -> PaddedShape:
        return PaddedShape.of_prompts(MAX_STREAMS, bucket, prompt_block_rows(self._kv))

    def _fields(self, bucket: int) -> Fields:
        return self._shape(bucket).fields(self._kv)

    def _computed_by(self, stack: Forward) -> Callable[[int, Mapping[str, Tensor]], None]:
        def compute(bucket: int, inputs: Mapping[str, Tensor]) -> None:
            self._hidden[:bucket] = stack(self._rows[:bucket], PaddedAttention(self._kv, self._shape(bucket), inputs))

        return compute
