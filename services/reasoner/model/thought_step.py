"""One more thought for each of several streams, as one step of a fixed shape (docs/model.md, section 3).

A stream brings the token it thought last and takes a hidden state and the next token. On CUDA steps are rounded up
to a few widths and captured; elsewhere they have the width they have.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from services.reasoner.model.thinker import Thinker
from services.runtime.graphs.graphs import StepGraphs, bucket_of, buckets
from services.runtime.graphs.staging import Block, StagingBuffer
from services.runtime.kvcache.attention_padded import Plan
from services.runtime.kvcache.attention_ragged import FlatPlan, FlatShape, fill_plan
from services.runtime.kvcache.paged_kv import PagedKV


class ThoughtStep:
    """The steps of all streams of `kv`. `padded`: whether widths are rounded up; unset: on CUDA."""

    def __init__(self, thinker: Thinker, kv: PagedKV, *, padded: bool | None = None) -> None:
        device, slots = thinker.stack.device, kv.slots
        self.graphs = StepGraphs(device)
        self.padded = device.type == "cuda" if padded is None else padded
        self._thinker = thinker
        self._kv = kv
        self._widths = buckets(slots)
        self._block = Block(slots + FlatShape.of_steps(slots, slots).elements(kv), torch.int64, device)
        self._tokens = torch.zeros(slots, dtype=torch.int64, device=device)
        self._hidden = torch.zeros(slots, thinker.config.width, dtype=thinker.stack.dtype, device=device)

    @torch.inference_mode()
    def __call__(self, plan: Plan, token_ids: Sequence[int]) -> tuple[list[int], torch.Tensor]:
        """Of the streams of `plan`, a row each, after these tokens [N]: next tokens [N], hidden [N, D] on the host."""
        count = len(token_ids)
        inputs = self._fill(bucket_of(count, self._widths) if self.padded else count, plan, token_ids)
        width = inputs.host["token_ids"].shape[0]
        self.graphs.run(width, lambda: self._step(inputs, None if self.padded else plan))
        return self._tokens[:count].tolist(), self._hidden[:count].cpu()

    @torch.inference_mode()
    def capture(self) -> None:
        """Capture a step of every width, the widest first. Does nothing where steps are not padded."""
        if self.padded:
            for width in reversed(self._widths):
                inputs = self._fill(width, None, [])
                self.graphs.capture(width, lambda inputs=inputs: self._step(inputs, None))

    def _fill(self, width: int, plan: Plan | None, token_ids: Sequence[int]) -> StagingBuffer:
        shape = FlatShape.of_steps(width, width)
        shapes = shape.inputs(self._kv) if self.padded else {}
        inputs = StagingBuffer(self._block, token_ids=(width,), **shapes)
        inputs.host["token_ids"][: len(token_ids)] = token_ids
        inputs.host["token_ids"][len(token_ids) :] = 0
        if self.padded:
            fill_plan(inputs.host, shape, plan)
        inputs.send()
        return inputs

    def _step(self, inputs: StagingBuffer, plan: Plan | None) -> None:
        """Nothing here may depend on anything but the width, or ask the device for a value."""
        there = inputs.there
        rows = self._thinker.embedding.index_select(0, there["token_ids"])  # [W, D]
        shape = FlatShape.of_steps(len(rows), len(rows))
        hidden = self._thinker.forward(rows, plan or FlatPlan.of(self._kv, shape, there))
        self._hidden[: len(rows)] = hidden
        self._tokens[: len(rows)] = self._thinker.head(hidden).argmax(dim=-1)
