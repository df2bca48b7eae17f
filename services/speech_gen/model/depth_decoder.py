"""The depth decoder: codebooks 1 to 7 of a frame, one forward pass each, for all streams of a step.

A frame has 8 places: place 0 holds the backbone's hidden state, place k + 1 the code of codebook k. Nothing is kept
between frames. The rotary position of place k + 1 is k, and place 0 is at position 0 too. This was read off the
reference's logits: with positions 0 to 7 they differ by up to 15. (docs/model.md, section 4)
"""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from services.runtime.checkpoint.config import StackConfig
from services.runtime.cpu.row_memory import RowMemory
from services.runtime.layers.fused import uses_kernels
from services.runtime.layers.linear import Linear
from services.runtime.layers.rope import rotary_table, split_rotated, whole_angles
from services.runtime.layers.transformer import Stack
from services.speech_gen.model.sampling import Choices, choose


class FrameChoice(Protocol):
    """Another way to choose a frame's codes, for steps of few streams (depth_frame.py).

    Attributes:
        staged: whether it takes a launch for each of its stages.
        streams: most streams of a step.
        logits: of the last frame, float32 [at least (K - 1) * W * V], by codebook, stream and code.
    """

    staged: bool
    streams: int
    logits: Tensor

    def __call__(self, hidden: Tensor, codes: Tensor, choices: Choices) -> None:
        """Choose codebooks 1 to 7: `hidden` [W, width] is projected; int64 `codes` [W, 8]."""
        ...


class DepthDecoder:
    """Transformer, input projection and heads, with room for `streams` streams in a step.

    `projection` D -> decoder width; `audio_table` [K * code_vocab, D]; `heads[k - 1]` gives codebook k's logits.
    The projection of the whole audio table is computed once, here, so a code needs a single look-up.
    """

    def __init__(
        self, stack: Stack, projection: Linear, audio_table: Tensor, heads: list[Linear], *, streams: int
    ) -> None:
        codebooks = len(heads) + 1
        self.streams = streams
        self.stack = stack
        self.projection = projection
        self.heads = heads
        self.code_vocab = audio_table.shape[0] // codebooks
        with torch.inference_mode():
            rows = projection(audio_table[: (codebooks - 1) * self.code_vocab])
        self.code_rows = rows.view(codebooks - 1, self.code_vocab, -1)
        self.frame: FrameChoice | None = None
        self.frame_streams = 0
        """Codes of up to so many streams are chosen by `frame`."""
        self._frame = _Frame(stack.config, codebooks, streams, stack.dtype, stack.device)

    @property
    def rotary(self) -> tuple[Tensor, Tensor]:
        """Rotary (cos, sin) of the places, each float32 [K, 1, head_dim / 2]."""
        return self._frame.cos, self._frame.sin

    def choose(self, hidden: Tensor, codes: Tensor, choices: Choices) -> None:
        """Choose the codes of codebooks 1 to 7: int64 `codes` [W, 8], of which codebook 0 is given.

        `hidden` [W, D] is the backbone's last hidden state. `choices.finite` is written too.
        """
        if self.frame is not None and len(codes) <= self.frame_streams:
            self.frame(self.projection(hidden), codes, choices)
        else:
            self.choose_plainly(hidden, codes, choices)

    def logits(self, codebook: int, hidden: Tensor, previous_code: Tensor) -> Tensor:
        """Logits of codebook `codebook`, float32 [W, codebook size]. Called for codebooks 1 to 7 in order.

        `hidden` [W, D] is the backbone's last hidden state, which only codebook 1 reads. `previous_code` int64 [W]
        holds the codes of codebook - 1.
        """
        streams = previous_code.shape[0]
        rows = self.code_rows[codebook - 1].index_select(0, previous_code)
        if codebook == 1:
            rows = torch.cat([self.projection(hidden), rows])
        self._frame.turn_to(codebook, streams)
        return self.heads[codebook - 1](self.stack(rows, self._frame)[-streams:]).float()

    def choose_plainly(self, hidden: Tensor, codes: Tensor, choices: Choices) -> None:
        """`choose` with a pass of the stack for each codebook."""
        for codebook in range(1, codes.shape[1]):
            logits = self.logits(codebook, hidden, codes[:, codebook - 1])
            codes[:, codebook] = choose(logits, choices, codebook)


class _Frame:
    """The `AttentionBackend` of one frame's K places for up to `streams` streams.

    k, v [layers, K, streams, kv_heads, head_dim].

    Rows are ordered by place: first all streams' rows of one place, then those of the next.
    """

    def __init__(
        self, config: StackConfig, codebooks: int, streams: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        shape = (config.layers, codebooks, streams, config.kv_heads, config.head_dim)
        self._k = torch.zeros(shape, dtype=dtype, device=device)
        self._v = torch.zeros(shape, dtype=dtype, device=device)
        positions = torch.arange(-1, codebooks - 1, device=device).clamp_(min=0)
        cos, sin = rotary_table(config, codebooks, device)
        self.cos, self.sin = cos[positions, None], sin[positions, None]
        self._angles = whole_angles(cos[positions], sin[positions])
        share = config.heads // config.kv_heads
        blind = torch.full((2, 2), -torch.inf, dtype=dtype, device=device).triu(1)
        self._first_bias = blind.repeat_interleave(share, dim=0)
        self._row_memories: dict[tuple[int, int], RowMemory] = {}
        self.turn_to(1, streams)

    def turn_to(self, codebook: int, streams: int) -> None:
        """Prepare for the rows of codebook number `codebook`: places 0 and 1 for codebook 1, else one place."""
        self._first = 0 if codebook == 1 else codebook
        self._end = codebook + 1
        self._streams = streams
        self._row_angles: tuple[Tensor, Tensor] | None = None

    @property
    def row_memory(self) -> RowMemory:
        """The rows for a compiled step. A place of a stream is a page of one position."""
        key = self._first, self._streams
        if key not in self._row_memories:
            self._row_memories[key] = self._rows(*key)
        return self._row_memories[key]

    def _rows(self, first: int, streams: int) -> RowMemory:
        room = self._k.shape[2]
        place = torch.arange(first, self._end).repeat_interleave(streams)
        stream = torch.arange(streams).repeat(self._end - first)
        tables = torch.arange(self._k.shape[1]) * room + torch.arange(streams)[:, None]
        cos, sin = (table[place].flatten(1).contiguous() for table in (self.cos, self.sin))
        return RowMemory(
            cos, sin, place * room + stream, stream, place + 1, tables, 1, self._k, self._v, int(self._end)
        )

    def attend(self, layer: int, qkv: Tensor) -> Tensor:
        """Attention of the rows [places * W] of `qkv` to their stream's places up to their own.

        Returns [R, heads * head_dim].
        """
        streams, count = self._streams, self._end - self._first
        if uses_kernels(qkv):
            from services.speech_gen.model.depth_attention_triton import attend_places

            return attend_places(
                qkv, self._k[layer], self._v[layer], self.cos, self.sin, first=self._first, count=count
            )
        kv_heads, head_dim = self._k.shape[3:]
        q, k, v = split_rotated(qkv, kv_heads, *self._angles_of_rows())
        new = slice(self._first, self._end)
        self._k[layer, new, :streams] = k.view(count, streams, kv_heads, head_dim)
        self._v[layer, new, :streams] = v.view(count, streams, kv_heads, head_dim)
        keys, values = (x[layer, : self._end, :streams].permute(1, 2, 0, 3) for x in (self._k, self._v))
        if count == 1:
            queries = q.view(streams, kv_heads, -1, head_dim)
            return F.scaled_dot_product_attention(queries, keys, values).flatten(1)
        queries = q.view(count, streams, kv_heads, -1, head_dim).permute(1, 2, 0, 3, 4)
        share = queries.shape[3]
        attended = F.scaled_dot_product_attention(
            queries.reshape(streams, kv_heads, count * share, head_dim), keys, values, attn_mask=self._first_bias
        )
        attended = attended.view(streams, kv_heads, count, share, head_dim).permute(2, 0, 1, 3, 4)
        return attended.reshape(count * streams, kv_heads * share * head_dim)

    def _angles_of_rows(self) -> tuple[Tensor, Tensor]:
        """Rotary (cos, sin) of whole heads, float32 [R, 1, head_dim], or [1, 1, head_dim] when all rows have one place.

        Kernels do not need them, so they are made here.
        """
        if self._row_angles is None:
            cos, sin = (table[self._first : self._end] for table in self._angles)
            if self._end - self._first > 1:
                cos, sin = (angles.repeat_interleave(self._streams, dim=0) for angles in (cos, sin))
            self._row_angles = cos, sin
        return self._row_angles
