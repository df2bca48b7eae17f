"""One more thought for each of several streams as one step (docs/model.md, section 3).

A stream brings its last token; the step gives it a hidden state and the next token.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from services.reasoner.model.thinker import Thinker
from services.runtime.graphs.captured_step import CapturedStep
from services.runtime.graphs.graphs import StepGraphs, bucket_of, buckets
from services.runtime.graphs.staging import Field, Fields, StagingBuffer
from services.runtime.kvcache.attention_padded import PaddedAttention, PaddedShape
from services.runtime.kvcache.attention_ragged import RaggedAttention
from services.runtime.kvcache.paged_kv import PagedKV


class ThoughtStep:
    """The steps of all streams of `kv`, at most `max_streams` in a step (unset: as many as `kv` has slots). `padded`:
    whether widths are rounded up. Unset: on CUDA."""

    def __init__(
        self, thinker: Thinker, kv: PagedKV, *, max_streams: int | None = None, padded: bool | None = None
    ) -> None:
        device, slots = thinker.stack.device, max_streams or kv.slots
        self.graphs = StepGraphs(device, padded=padded)
        self._thinker = thinker
        self._kv = kv
        self._widths = buckets(slots)
        self._step = CapturedStep("thought", self.graphs, shapes=self._widths[::-1], fields=self._fields)
        self._tokens = torch.zeros(slots, dtype=torch.int64, device=device)
        self._hidden = torch.zeros(slots, thinker.config.width, dtype=thinker.stack.dtype, device=device)

    @torch.inference_mode()
    def __call__(self, ragged: RaggedAttention, token_ids: Sequence[int]) -> tuple[list[int], Tensor]:
        """The next thoughts of the streams of `ragged`, one row each, whose last tokens are `token_ids` [N].

        Returns the next tokens [N] and the hidden states [N, D], on the host.
        """
        count = len(token_ids)
        if self.graphs.padded:
            width = bucket_of(count, self._widths)
            inputs = self._step.inputs(width)
            inputs.fill(**PaddedShape.of_steps(width, width).arrays(ragged))
            self._embed(token_ids, inputs)
            self._step.run(width, inputs, self._compute)
        else:
            inputs = self._step.inputs(count)
            self._embed(token_ids, inputs)
            self._step.run(count, inputs, lambda width, tensors: self._compute(width, tensors, ragged))
        return self._tokens[:count].tolist(), self._hidden[:count].cpu()

    def capture(self) -> None:
        """Capture a step of every width. Does nothing where steps are not padded."""
        self._step.capture(self._compute)

    def _fields(self, width: int) -> Fields:
        attention = PaddedShape.of_steps(width, width).fields(self._kv) if self.graphs.padded else {}
        rows = (width, self._thinker.config.width)
        return {"embeddings": Field(rows, self._thinker.stack.dtype, padding=None), **attention}

    def _embed(self, token_ids: Sequence[int], inputs: StagingBuffer) -> None:
        """Look the tokens up on the host."""
        rows = inputs.host("embeddings")[: len(token_ids)]
        torch.index_select(self._thinker.embedding, 0, torch.tensor(token_ids), out=rows)

    def _compute(self, width: int, inputs: Mapping[str, Tensor], ragged: RaggedAttention | None = None) -> None:
        hidden = self._thinker.forward(
            inputs["embeddings"], ragged or PaddedAttention(self._kv, PaddedShape.of_steps(width, width), inputs)
        )
        self._hidden[:width] = hidden
        self._tokens[:width] = self._thinker.head(hidden).argmax(dim=-1)
