"""The depth decoder: codebooks 1 to 7 of a frame, one forward each, for all streams of a step.

A frame has 8 places: place 0 holds the backbone's hidden state, place k + 1 the code of codebook k. Nothing is kept
between frames. The rotary position of a place is the codebook whose embedding it carries, so places 0 and 1 are both
at position 0: the reference's logits say so (shifting them by one moves codebook 2 by 15). (docs/model.md, section 4)
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from services.runtime.checkpoint.config import StackConfig
from services.runtime.layers.fused import uses_kernels
from services.runtime.layers.linear import Linear
from services.runtime.layers.rope import rotary_table, split_rotated
from services.runtime.layers.transformer import Stack


class DepthDecoder:
    """Stack, input projection and heads, with room for `streams` streams a step.

    `projection` D -> decoder width; `audio_table` [K * code_vocab, D]; `heads[k - 1]` gives codebook k's logits.
    Codes enter through the table times the projection, which is multiplied out once, here.
    """

    def __init__(
        self, stack: Stack, projection: Linear, audio_table: Tensor, heads: list[Linear], *, streams: int
    ) -> None:
        codebooks = len(heads) + 1
        self.stack = stack
        self.projection = projection
        self.heads = heads
        self.code_vocab = audio_table.shape[0] // codebooks
        with torch.inference_mode():
            self.code_rows = projection(audio_table[: (codebooks - 1) * self.code_vocab])
        self._frame = _Frame(stack.config, codebooks, streams, stack.dtype, stack.device)

    def logits(self, codebook: int, hidden: Tensor, previous_code: Tensor) -> Tensor:
        """The logits of codebook `codebook` (1 to 7), to be asked for in order.

        `hidden` [W, D], the backbone's last hidden state, is read for codebook 1 only; `previous_code` int64 [W] is
        the code of codebook - 1. Returns float32 [W, codebook size]: only the codes that the codec can decode.
        """
        streams = previous_code.shape[0]
        rows = self.code_rows.index_select(0, previous_code + (codebook - 1) * self.code_vocab)
        if codebook == 1:
            rows = torch.cat([self.projection(hidden), rows])
        self._frame.turn_to(codebook, streams)
        out = self.stack(rows, self._frame)
        return self.heads[codebook - 1](out[-streams:]).float()


class _Frame:
    """A `Memory` of one frame's K places for up to `streams` streams: k, v [layers, K, streams, kv_heads, head_dim].

    Rows come place by place: first all streams' rows of one place, then of the next.
    """

    def __init__(
        self, config: StackConfig, codebooks: int, streams: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        shape = (config.layers, codebooks, streams, config.kv_heads, config.head_dim)
        self._k = torch.zeros(shape, dtype=dtype, device=device)
        self._v = torch.zeros(shape, dtype=dtype, device=device)
        positions = torch.arange(-1, codebooks - 1, device=device).clamp_(min=0)
        cos, sin = rotary_table(config, codebooks, device)
        self._cos, self._sin = cos[positions, None], sin[positions, None]
        self._rotary: tuple[Tensor, Tensor] | None = None
        share = config.heads // config.kv_heads
        blind = torch.full((2, 2), -torch.inf, dtype=dtype, device=device).triu(1)
        self._first_bias = blind.repeat_interleave(share, dim=0)
        self.turn_to(1, streams)

    def turn_to(self, codebook: int, streams: int) -> None:
        """The next rows are those that codebook number `codebook` needs: two places for the first, else one."""
        self._first = 0 if codebook == 1 else codebook
        self._end = codebook + 1
        self._streams = streams
        self._rotary = None

    def attend(self, layer: int, qkv: Tensor) -> Tensor:
        """Rows [places * W] of qkv see their streams' places up to their own -> [R, heads * head_dim]."""
        streams, count = self._streams, self._end - self._first
        if uses_kernels(qkv):
            from services.speech_gen.model.depth_attention_triton import attend_places

            return attend_places(
                qkv, self._k[layer], self._v[layer], self._cos, self._sin, first=self._first, count=count
            )
        kv_heads, head_dim = self._k.shape[3:]
        q, k, v = split_rotated(qkv, kv_heads, *self._row_angles())
        self._k[layer, self._first : self._end, :streams] = k.view(count, streams, kv_heads, head_dim)
        self._v[layer, self._first : self._end, :streams] = v.view(count, streams, kv_heads, head_dim)
        queries = q.view(count, streams, kv_heads, -1, head_dim).permute(1, 2, 0, 3, 4)
        share = queries.shape[3]
        attended = F.scaled_dot_product_attention(
            queries.reshape(streams, kv_heads, count * share, head_dim),
            self._k[layer, : self._end, :streams].permute(1, 2, 0, 3),
            self._v[layer, : self._end, :streams].permute(1, 2, 0, 3),
            attn_mask=self._first_bias if count == 2 else None,
        )
        attended = attended.view(streams, kv_heads, count, share, head_dim).permute(2, 0, 1, 3, 4)
        return attended.reshape(count * streams, kv_heads * share * head_dim)

    def _row_angles(self) -> tuple[Tensor, Tensor]:
        """(cos, sin) of the rows' places, each float32 [R, 1, head_dim / 2]."""
        if self._rotary is None:
            cos, sin = (
                table[self._first : self._end].repeat_interleave(self._streams, dim=0)
                for table in (self._cos, self._sin)
            )
            self._rotary = cos, sin
        return self._rotary
