"""The speech generator for training: all frames of a speech at once, teacher-forced.

Its parameters have the names and shapes of the published checkpoint, so its state dict is its artefact.
(docs/model.md, sections 1, 2 and 4)
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from services.runtime.checkpoint.config import ChromaConfig
from train.causal_stack import CausalStack
from train.speech.batch import SpeechBatch

AUDIO_TABLE_STD = 0.1
"""Standard deviation of a code's initial embedding. The sum of eight has about half the norm of a row of E."""

HEAD_STD = 0.02


class SpeechModel(nn.Module):
    """Backbone and depth decoder. `text_table` [vocab, D] is E, the reasoner's table; it is not trained.

    Raises `ValueError` for a table of another shape than the configuration's.
    """

    text_table: Tensor
    offsets: Tensor

    def __init__(self, config: ChromaConfig, text_table: Tensor) -> None:
        super().__init__()
        expected = (config.thinker.vocab_size, config.backbone.width)
        if tuple(text_table.shape) != expected:
            raise ValueError(f"text table: expected shape {list(expected)}, got {list(text_table.shape)}")
        self.config = config
        self.backbone = _Backbone(config)
        self.decoder = _DepthDecoder(config)
        self.register_buffer("text_table", text_table.float(), persistent=False)
        self.register_buffer("offsets", torch.arange(config.codebooks) * config.code_vocab_size, persistent=False)
        self._initialise()

    def rows(self, batch: SpeechBatch) -> Tensor:
        """The backbone's input rows, [B * L, D]; padding and the zero row are zeros."""
        table = self.decoder.audio_embedding.embed_audio_tokens.weight
        frames = F.embedding_bag(batch.frame_codes + self.offsets, table, mode="sum")
        flat = self.text_table.new_zeros(batch.speeches * batch.length, self.text_table.shape[1])
        flat = flat.index_copy(0, batch.text_at, self.text_table.index_select(0, batch.text_ids))
        return flat.index_copy(0, batch.hidden_at, batch.hidden).index_copy(0, batch.frame_at, frames)

    def hidden(self, batch: SpeechBatch) -> Tensor:
        """The backbone's hidden state that predicts each target frame, [N, D], after the final norm."""
        rows = self.rows(batch).view(batch.speeches, batch.length, -1)
        return self.backbone.model(rows).flatten(0, 1).index_select(0, batch.target_at)

    def codebook0_logits(self, hidden: Tensor) -> Tensor:
        """hidden [N, D] -> float32 [N, code vocabulary]."""
        return self.backbone.codebook0_head(hidden).float()

    def depth_logits(self, hidden: Tensor, codes: Tensor) -> Tensor:
        """Logits of codebooks 1 to K - 1 of frames [N, K], each after the true codes of the earlier codebooks.

        `hidden` [N, D] is the backbone's. Returns float32 [N, K - 1, code vocabulary].
        """
        decoder = self.decoder
        embedded = decoder.audio_embedding.embed_audio_tokens(codes[:, :-1] + self.offsets[:-1])  # [N, K - 1, D]
        rows = decoder.projection(torch.cat([hidden[:, None], embedded], dim=1))
        states = decoder.model(rows)[:, 1:].transpose(0, 1)  # [K - 1, N, width]
        return torch.bmm(states, decoder.codebook_head.weight).transpose(0, 1).float()

    def _initialise(self) -> None:
        for stack in (self.backbone.model, self.decoder.model):
            for name, parameter in stack.named_parameters():
                if parameter.dim() == 2:
                    gain = (
                        (2 * len(stack.layers)) ** -0.5 if name.endswith(("o_proj.weight", "down_proj.weight")) else 1
                    )
                    nn.init.normal_(parameter, std=gain * parameter.shape[1] ** -0.5)
        nn.init.normal_(self.decoder.audio_embedding.embed_audio_tokens.weight, std=AUDIO_TABLE_STD)
        nn.init.normal_(self.backbone.codebook0_head.weight, std=HEAD_STD)
        nn.init.normal_(self.decoder.codebook_head.weight, std=HEAD_STD)


class _Backbone(nn.Module):
    def __init__(self, config: ChromaConfig) -> None:
        super().__init__()
        self.model = CausalStack(config.backbone, torch.arange(config.backbone.max_positions))
        self.codebook0_head = nn.Linear(config.backbone.width, config.code_vocab_size, bias=False)


class _DepthDecoder(nn.Module):
    """The depth decoder. It holds the audio table, which the backbone reads too, as in the published checkpoint."""

    def __init__(self, config: ChromaConfig) -> None:
        super().__init__()
        self.projection = nn.Linear(config.audio_width, config.decoder.width, bias=False)
        self.model = CausalStack(config.decoder, depth_positions(config.codebooks))
        self.codebook_head = _Heads(config.codebooks - 1, config.decoder.width, config.code_vocab_size)
        self.audio_embedding = _AudioTable(config.codebooks * config.code_vocab_size, config.audio_width)


class _Heads(nn.Module):
    def __init__(self, heads: int, width: int, codes: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(heads, width, codes))


class _AudioTable(nn.Module):
    def __init__(self, rows: int, width: int) -> None:
        super().__init__()
        self.embed_audio_tokens = nn.Embedding(rows, width)


def depth_positions(codebooks: int) -> Tensor:
    """Rotary positions 0, 0, 1, 2 ... of the elements of a frame: each is the codebook of the element's embedding."""
    return torch.arange(-1, codebooks - 1).clamp(min=0)
