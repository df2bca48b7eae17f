"""Some rows of prompts through a stack, as one step of a fixed shape (docs/model.md, section 1).

On CUDA the rows are rounded up to a few counts, whose steps are captured: an eager pass of the thinker takes the host
five times as long to launch as the device to compute. Elsewhere a step has the rows it has.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from services.runtime.graphs.graphs import StepGraphs, bucket_of, buckets
from services.runtime.graphs.staging import Block, StagingBuffer
from services.runtime.kvcache.attention_padded import Plan, prompt_block_rows
from services.runtime.kvcache.attention_ragged import FlatPlan, FlatShape, fill_plan
from services.runtime.kvcache.paged_kv import PagedKV
from services.runtime.layers.transformer import Memory

MAX_ROWS = 256
MIN_ROWS = 16
MAX_STREAMS = 32

Forward = Callable[[Tensor, Memory], Tensor]
"""Rows [R, D] and where they stand -> hidden [R, D] after the final norm."""


class PromptStep:
    """The prompts of all streams of `kv`.

    Args:
        graphs: where the captured steps are kept.
        padded: whether rows are rounded up. A step of more than `MAX_ROWS` rows or `MAX_STREAMS` streams never is.
    """

    def __init__(self, kv: PagedKV, graphs: StepGraphs, *, padded: bool) -> None:
        self._kv = kv
        self.graphs = graphs
        self._padded = padded
        if padded:
            self._counts = [count for count in buckets(MAX_ROWS) if count >= MIN_ROWS]
            self._block = Block(self._shape(MAX_ROWS).elements(kv), torch.int64, kv.k.device)
            self._rows, self._hidden = (
                torch.zeros(MAX_ROWS, kv.config.width, dtype=kv.k.dtype, device=kv.k.device) for _ in range(2)
            )

    @torch.inference_mode()
    def __call__(self, stack: Forward, rows: Sequence[Tensor], plan: Plan) -> Tensor:
        """`rows`, each [n, D], one after the other, where `plan` says -> hidden [R, D] after the final norm.

        It stands until the next call. `stack` is the same in every call.
        """
        count = sum(map(len, rows))
        if not self._padded or count > MAX_ROWS or len(plan.slots) > MAX_STREAMS:
            return stack(torch.cat(list(rows)), plan)
        bucket = bucket_of(count, self._counts)
        inputs = self._fill(bucket, plan)
        torch.cat(list(rows), out=self._rows[:count])
        self.graphs.run(("prompt", bucket), lambda: self._step(stack, bucket, inputs))
        return self._hidden[:count]

    @torch.inference_mode()
    def capture(self, stack: Forward) -> None:
        """Capture a step of every count, the most rows first. Does nothing where steps are not padded."""
        if self._padded:
            for bucket in reversed(self._counts):
                inputs = self._fill(bucket, None)
                self.graphs.capture(
                    ("prompt", bucket), lambda bucket=bucket, inputs=inputs: self._step(stack, bucket, inputs)
                )

    def _shape(self, bucket: int) -> FlatShape:
        return FlatShape.of_prompts(MAX_STREAMS, bucket, prompt_block_rows(self._kv))

    def _fill(self, bucket: int, plan: Plan | None) -> StagingBuffer:
        shape = self._shape(bucket)
        inputs = StagingBuffer(self._block, **shape.inputs(self._kv))
        fill_plan(inputs.host, shape, plan)
        inputs.send()
        return inputs

    def _step(self, stack: Forward, bucket: int, inputs: StagingBuffer) -> None:
        """Nothing here may depend on anything but the bucket, or ask the device for a value."""
        self._hidden[:bucket] = stack(self._rows[:bucket], FlatPlan.of(self._kv, self._shape(bucket), inputs.there))
