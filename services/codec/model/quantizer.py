"""The split residual quantizer: one semantic codebook, then acoustic ones (docs/model.md, section 6).

The semantic and the acoustic half each quantize the whole input. Inside a half, each codebook quantizes the residual
of the codebooks before it. A codebook vector is embed_sum / max(cluster_usage, 1e-5).
"""

from __future__ import annotations

import torch
from torch.nn import functional as F

from services.common.wire.audio import CODEBOOKS
from services.runtime.checkpoint.config import CodecConfig
from services.runtime.checkpoint.mapped_memory import page_out
from services.runtime.checkpoint.weights import Weights

_MIN_USAGE = 1e-5


class Quantizer:
    """Codes [B, T, K] to vectors [B, T, width] and back, for the first 8 codebooks."""

    def __init__(self, weights: Weights, config: CodecConfig) -> None:
        semantic = config.semantic_codebooks
        halves = [
            (weights.below("semantic_residual_vector_quantizer"), semantic),
            (weights.below("acoustic_residual_vector_quantizer"), CODEBOOKS - semantic),
        ]
        codebooks = [
            _codebook(half.below(f"layers.{index}.codebook"), config)
            for half, count in halves
            for index in range(count)
        ]
        self._semantic = semantic
        self._tables = torch.cat(codebooks)  # [K * codebook size, dim]
        tables = self._tables.split(config.codebook_size)
        self._halves = [tables[:semantic], tables[semantic:]]
        self._first_rows = torch.arange(CODEBOOKS, device=self._tables.device) * config.codebook_size  # [K]
        self._input: list[torch.Tensor] | None = None
        self._output: torch.Tensor | None = None
        if config.quantizer_width != config.width:
            narrow, wide = config.quantizer_width, config.width
            self._input = [half.read("input_proj.weight", narrow, wide, 1).squeeze(2) for half, _ in halves]
            outputs = [half.read("output_proj.weight", wide, narrow, 1).squeeze(2) for half, _ in halves]
            self._output = torch.cat(outputs, dim=1)  # [width, 2 * quantizer width]

    def decode(self, codes: torch.Tensor) -> torch.Tensor:
        """[B, T, K] codes below the codebook size -> [B, T, width]."""
        vectors = F.embedding(codes + self._first_rows, self._tables)  # [B, T, K, quantizer width]
        semantic = vectors[:, :, : self._semantic].sum(2)
        acoustic = vectors[:, :, self._semantic :].sum(2)
        if self._output is None:
            return semantic + acoustic
        return F.linear(torch.cat((semantic, acoustic), dim=2), self._output)

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        """[B, T, width] -> [B, T, K] codes: nearest by L2, codebook after codebook."""
        rows = x.flatten(0, 1)
        codes: list[torch.Tensor] = []
        for half, tables in enumerate(self._halves):
            rest = rows if self._input is None else F.linear(rows, self._input[half])
            for table in tables:
                nearest = torch.cdist(rest[None], table[None])[0].argmin(dim=1)
                rest = rest - F.embedding(nearest, table)
                codes.append(nearest)
        return torch.stack(codes, dim=1).view(*x.shape[:2], CODEBOOKS)


def _codebook(weights: Weights, config: CodecConfig) -> torch.Tensor:
    total = weights.read("embed_sum", config.codebook_size, config.codebook_dim)
    usage = weights.read("cluster_usage", config.codebook_size)
    table = total / usage.clamp(min=_MIN_USAGE)[:, None]  # [codebook size, dim]
    page_out([total])
    return table
