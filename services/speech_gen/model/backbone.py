"""The backbone: embeddings of text and codes, the transformer over them, and the logits of codebook 0.

(docs/model.md, sections 1, 2 and 4)
"""

from __future__ import annotations

import torch
from torch import Tensor

from services.runtime.layers.linear import Linear
from services.runtime.layers.transformer import AttentionBackend, Stack


class Backbone:
    """Transformer, embedding tables and head.

    `text_table` E [vocab, D], in the memory of the host, so that it takes none of a GPU's; `audio_table`
    [K * code_vocab, D]; `head` [D] -> [codebook size].
    """

    def __init__(self, stack: Stack, text_table: Tensor, audio_table: Tensor, head: Linear, codebooks: int) -> None:
        self.stack = stack
        self.text_table = text_table
        self.audio_table = audio_table
        self.head = head
        self.codebooks = codebooks
        code_vocab = audio_table.shape[0] // codebooks
        self._offsets = torch.arange(codebooks, device=audio_table.device) * code_vocab

    @property
    def width(self) -> int:
        """D, the width of an embedding."""
        return self.stack.config.width

    @property
    def codebook_size(self) -> int:
        """The number of codes in a codebook that the codec can decode. The audio table has rows for a few more."""
        return self.head.out_features

    def text_rows(self, token_ids: Tensor) -> Tensor:
        """Embeddings E of int64 token ids [N] -> [N, D] on the device. Not for captured steps."""
        rows = self.text_table.index_select(0, token_ids.to(self.text_table.device))
        return rows.to(self.stack.device)

    def audio_rows(self, codes: Tensor) -> Tensor:
        """Embeddings A of frames: int64 codes [N, K] -> [N, D], summed over the codebooks."""
        rows = self.audio_table.index_select(0, (codes + self._offsets).flatten())
        return rows.view(*codes.shape, -1).sum(dim=1)

    def __call__(self, rows: Tensor, attention: AttentionBackend) -> Tensor:
        """rows [R, D] -> hidden [R, D], after the final norm."""
        return self.stack(rows, attention)

    def codebook0_logits(self, hidden: Tensor) -> Tensor:
        """hidden [W, D] -> float32 [W, codebook size]: only the codes that the codec can decode."""
        return self.head(hidden).float()
