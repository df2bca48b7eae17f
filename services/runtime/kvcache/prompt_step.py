"""A step that prefills prompts of several streams (docs/model.md, section 1).

A padded step has one of a few numbers of rows. On CUDA, to launch an eager pass of the thinker takes the host five
times as long as the pass takes the device.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from services.common.settings import PREFILL_POSITIONS
from services.runtime.graphs.captured_step import CapturedStep
from services.runtime.graphs.graphs import StepGraphs, bucket_of, buckets
from services.runtime.graphs.staging import Fields
from services.runtime.kvcache.attention import prompt_block_rows
from services.runtime.kvcache.attention_padded import PaddedAttention, PaddedShape
from services.runtime.kvcache.attention_ragged import RaggedAttention
from services.runtime.kvcache.paged_kv import PagedKV
from services.runtime.layers.transformer import AttentionBackend

MAX_ROWS = PREFILL_POSITIONS
"""The largest padded step: as many rows as a step prefills by default."""
MIN_ROWS = 16
MAX_STREAMS = 32

Forward = Callable[[Tensor, AttentionBackend], Tensor]
"""Embeddings [R, D] and their attention -> hidden states [R, D] after the final norm."""


class PromptStep:
    """Prefills prompts of the streams of `kv`.

    A step of more than `MAX_ROWS` rows or `MAX_STREAMS` streams is never padded. `graphs` keeps the captured steps and
    decides whether the other steps are padded.
    """

    def __init__(self, kv: PagedKV, graphs: StepGraphs) -> None:
        self._kv = kv
        self.graphs = graphs
        self._row_counts = [count for count in buckets(MAX_ROWS) if count >= MIN_ROWS]
        self._step = CapturedStep("prompt", graphs, shapes=self._row_counts[::-1], fields=self._fields)
        if graphs.padded:
            self._embeddings, self._hidden = (
                torch.zeros(MAX_ROWS, kv.config.width, dtype=kv.k.dtype, device=kv.k.device) for _ in range(2)
            )

    @torch.inference_mode()
    def __call__(self, stack: Forward, chunks: Sequence[Tensor], ragged: RaggedAttention) -> Tensor:
        """Embeddings of each stream, [n, D], in the order of `ragged` -> hidden states [R, D] after the final norm.

        The result is valid until the next call. `stack` must be the same in every call.
        """
        count = sum(map(len, chunks))
        if not self.graphs.padded or count > MAX_ROWS or ragged.streams > MAX_STREAMS:
            return stack(torch.cat(list(chunks)), ragged)
        bucket = bucket_of(count, self._row_counts)
        inputs = self._step.inputs(bucket)
        inputs.fill(**self._shape(bucket).arrays(ragged))
        torch.cat(list(chunks), out=self._embeddings[:count])
        self._step.run(bucket, inputs, self._compute_with(stack))
        return self._hidden[:count]

    def capture(self, stack: Forward) -> None:
        """Capture a step of every number of rows. Does nothing where steps are not padded."""
        self._step.capture(self._compute_with(stack))

    def _shape(self, bucket: int) -> PaddedShape:
        return PaddedShape.of_prompts(MAX_STREAMS, bucket, prompt_block_rows(self._kv))

    def _fields(self, bucket: int) -> Fields:
        return self._shape(bucket).fields(self._kv)

    def _compute_with(self, stack: Forward) -> Callable[[int, Mapping[str, Tensor]], None]:
        def compute(bucket: int, inputs: Mapping[str, Tensor]) -> None:
            attention = PaddedAttention(self._kv, self._shape(bucket), inputs)
            self._hidden[:bucket] = stack(self._embeddings[:bucket], attention)

        return compute
