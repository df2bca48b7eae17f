"""READ FIRST: how thoughts become frames of codes.

A thought is one step of the reasoner: a token id t and the hidden state h behind it. A frame is eight codes, one of
each codebook: 80 ms of sound.

A stream opens with a voice prompt, which is prefilled in chunks. After that, each step makes one frame for every
stream that takes part. A stream brings these rows to the backbone:

    frame 0                        zero row, h0, E(t0)               the last row of the prompt, the first thought
    odd frames                     A(previous frame)
    even frames                    A(previous frame), h, E(t)        one thought for every two frames
    even frames after the text     A(previous frame)

E(t) is the reasoner's embedding of token t. A(frame) is the sum of the embeddings of the frame's eight codes. The
hidden state of a stream's last row gives codebook 0 of its next frame, and the depth decoder gives the others. Streams
of one step may be at different frames. (docs/model.md, sections 2 to 4)

A reply that is too long for the backbone's positions is spoken in segments. Each segment begins as frame 0 does
(segment.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from services.common.errors import InvalidArgument
from services.common.sampling import SamplingParams
from services.runtime.graphs.captured_step import CapturedStep
from services.runtime.graphs.graphs import StepGraphs
from services.runtime.graphs.staging import Fields, StagingBuffer
from services.runtime.kvcache.attention_padded import PaddedAttention
from services.runtime.kvcache.attention_ragged import RaggedAttention
from services.runtime.kvcache.paged_kv import PagedKV, Prefix
from services.runtime.kvcache.prompt_step import PromptStep
from services.speech_gen.model.backbone import Backbone
from services.speech_gen.model.depth_decoder import DepthDecoder
from services.speech_gen.model.frame_inputs import FrameShape, frame_fields, frame_shapes, padded_shape, row_order
from services.speech_gen.model.sampling import SamplingTable, choose

NOT_FINITE = -1
"""The codes of a frame that has none, because the stream's values are no longer numbers."""


@dataclass(frozen=True)
class ThoughtInput:
    """The token and the hidden state [D] of a thought, in the compute dtype. `last`: the text ends with this thought.

    The reasoner's `Thought` also has the text and the place in the reply.
    """

    token_id: int
    hidden: Tensor
    last: bool = False


class Generator:
    """The model and the state of all its streams. A stream is the number of a slot. Used by one thread.

    Args:
        eos: the code that ends speech.
        im_end: the token that ends text.
        padded: whether steps are rounded up to a few shapes, which can be captured. Unset: on CUDA they are.
    """

    def __init__(
        self,
        backbone: Backbone,
        decoder: DepthDecoder,
        kv: PagedKV,
        *,
        eos: int,
        im_end: int,
        padded: bool | None = None,
    ) -> None:
        slots, device = kv.slots, backbone.stack.device
        self.backbone = backbone
        self.decoder = decoder
        self.kv = kv
        self.eos = eos
        self.im_end = im_end
        self.frames = np.zeros(slots, dtype=np.int64)
        """The number of frames that each slot has made."""
        self._opening = np.zeros(slots, dtype=np.bool_)
        """Whether the next frame of each slot begins with the zero row instead of A(previous frame)."""
        self.graphs = StepGraphs(device, padded=padded)
        self._prompt_step = PromptStep(kv, self.graphs)
        self._frame_step = CapturedStep("frame", self.graphs, shapes=frame_shapes(slots), fields=self._fields)
        # The slot after the last stream's is the slot of padding.
        self._previous = torch.zeros(slots + 1, backbone.codebooks, dtype=torch.int64, device=device)
        self._sampling = SamplingTable(slots + 1, backbone.codebooks, device)
        self._codes = torch.zeros(slots, backbone.codebooks, dtype=torch.int64, device=device)

    def open(self, sampling: SamplingParams, prompt: Prefix | None = None) -> int:
        """Take a slot for a new stream. `prompt` is a voice prompt that another stream has prefilled.

        Raises `ResourceExhausted`.
        """
        slot = self.kv.open(prompt)
        try:
            self._sampling.set(slot, sampling)
        except BaseException:
            self.kv.close(slot)
            raise
        self.frames[slot] = 0
        self._opening[slot] = True
        return slot

    def close(self, slot: int) -> None:
        """Free the stream's slot and pages for the next stream."""
        self.kv.close(slot)

    def restart(self, slot: int, prompt_length: int) -> None:
        """Remove all positions after the voice prompt. The next frame needs a thought, as frame 0 did."""
        self.kv.truncate(slot, prompt_length)
        self._opening[slot] = True

    @torch.inference_mode()
    def prefill(self, slots: Sequence[int], chunks: Sequence[Tensor]) -> None:
        """Append a chunk of the voice prompt, [N, D], to each slot. Its last row, the zero row, comes with frame 0."""
        self._prompt_step(self.backbone, chunks, self.kv.plan(slots, [len(chunk) for chunk in chunks]))

    @torch.inference_mode()
    def frame(
        self, without_thought: Sequence[int], with_thought: Sequence[int], thoughts: Sequence[ThoughtInput]
    ) -> np.ndarray:
        """Make one frame of each stream. Streams of `with_thought` bring three rows each, the others one row each.

        `thoughts[i]` belongs to `with_thought[i]`. Returns codes int64 [W, K]: first the frames of `without_thought`,
        then those of `with_thought`. The codes are -1 for a stream whose values are no longer numbers: its slot must be
        closed, and its pages erased before another stream has them.
        """
        slots = [*without_thought, *with_thought]
        ragged = self.kv.plan(slots, [1] * len(without_thought) + [3] * len(with_thought))
        padded = self.graphs.padded
        exact = FrameShape(len(slots), len(thoughts))
        shape = padded_shape(exact, self.kv.slots) if padded else exact
        order, last = row_order(shape, len(without_thought), len(with_thought))

        inputs = self._frame_step.inputs(shape)
        inputs.fill(
            slots=slots,
            opening=self._opening[slots],
            last=last,
            order=order,
            uniforms=self._sampling.uniforms(slots, self.frames[slots]),
            **(shape.attention.arrays(ragged) if padded else {}),
        )
        self._bring(thoughts, inputs)

        if padded:
            self._frame_step.run(shape, inputs, self._compute)
        else:
            most_k = self._sampling.most_k(slots)
            self._frame_step.run(shape, inputs, lambda shape, tensors: self._compute(shape, tensors, ragged, most_k))
        self.frames[slots] += 1
        self._opening[slots] = False
        return self._codes[: len(slots)].cpu().numpy().copy()

    def _bring(self, thoughts: Sequence[ThoughtInput], inputs: StagingBuffer) -> None:
        """Write the thoughts' hidden states and embeddings to the inputs, on the host."""
        if thoughts:
            count = len(thoughts)
            torch.stack([thought.hidden.cpu() for thought in thoughts], out=inputs.host("hidden")[:count])
            tokens = torch.tensor([thought.token_id for thought in thoughts])
            torch.index_select(self.backbone.text_table, 0, tokens, out=inputs.host("text")[:count])

    def capture(self) -> None:
        """Capture a step of every shape of prompts and frames. Does nothing where steps are not padded."""
        self._prompt_step.capture(self.backbone)
        self._frame_step.capture(self._compute)

    def _fields(self, shape: FrameShape) -> Fields:
        stack = self.backbone.stack
        return frame_fields(
            shape, self.kv, self.backbone.codebooks, self.backbone.width, stack.dtype, padded=self.graphs.padded
        )

    def _compute(
        self,
        shape: FrameShape,
        inputs: Mapping[str, Tensor],
        ragged: RaggedAttention | None = None,
        most_k: int | None = None,
    ) -> None:
        """Compute a frame of W streams and write it to `_codes`.

        A padded step has neither `ragged` nor `most_k`: it reads its attention from `inputs`, and can draw any code.
        """
        embeddings = self._embeddings(inputs)  # [R, D]
        attention = ragged or PaddedAttention(self.kv, shape.attention, inputs)
        hidden = self.backbone(embeddings, attention).index_select(0, inputs["last"])  # [W, D]

        if most_k is None:
            most_k = self.backbone.codebook_size
        choices = self._sampling.choices(inputs["slots"], inputs["uniforms"], most_k)
        frame = torch.empty(shape.streams, self.backbone.codebooks, dtype=torch.int64, device=hidden.device)  # [W, K]
        frame[:, 0] = choose(self.backbone.codebook0_logits(hidden), choices, 0)
        self.decoder.choose(hidden, frame, choices)

        self._previous.index_copy_(0, inputs["slots"], frame)
        self._codes[: shape.streams] = frame.masked_fill(~choices.finite.all(dim=1, keepdim=True), NOT_FINITE)

    def _embeddings(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """The rows of the backbone, [R, D], in the order of the streams."""
        previous = self.backbone.audio_rows(self._previous.index_select(0, inputs["slots"]))
        previous.masked_fill_(inputs["opening"].bool()[:, None], 0.0)
        unordered = torch.cat([previous, inputs["hidden"], inputs["text"]])
        return unordered.index_select(0, inputs["order"])

    def check(self, thought: ThoughtInput) -> None:
        """Raise `InvalidArgument` for a thought that the step cannot compute, before it joins a batch."""
        vocab, width = self.backbone.text_table.shape
        if not 0 <= thought.token_id < vocab:
            raise InvalidArgument(f"thought: expected a token id of 0 to {vocab - 1}, got {thought.token_id}")
        if tuple(thought.hidden.shape) != (width,) or thought.hidden.dtype != self.backbone.stack.dtype:
            raise InvalidArgument(
                f"thought: expected a hidden state [{width}] of {self.backbone.stack.dtype}, "
                f"got {list(thought.hidden.shape)} of {thought.hidden.dtype}"
            )
        if not torch.isfinite(thought.hidden).all():
            raise InvalidArgument("thought: the hidden state has NaN or infinite values")
