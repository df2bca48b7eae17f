"""The thinker: the weights of the reasoner and their passes. Read this first (docs/model.md, sections 3 and 7).

    prompt   ids | AUDIO x n | ids                prompt.py lays it out, clip.py encodes the audio
    prefill  embeddings [R, D] -> hidden [R, D]   in pieces of any size, while the user still speaks
    thought  (t0 = argmax lm_head(h0), h0)        h0: the last position's hidden state after the final norm
    step     E(t0) -> h1, t1, ...                 until im_end, whose thought is the last

The choice is greedy. Nothing of the speech feeds back, so the text may run ahead of it.
services/reasoner/runner.py runs these parts for many requests at once; reference/thinker.py is the plain loop.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from services.reasoner.model.audio_tower import AudioTower
from services.reasoner.model.mel import MelFilters
from services.reasoner.model.prompt_embeddings import PromptEmbeddings
from services.runtime.checkpoint.config import StackConfig, TokenIds
from services.runtime.layers.linear import Linear
from services.runtime.layers.transformer import AttentionBackend, Stack


@dataclass(frozen=True)
class Thinker:
    """The reasoner's weights, shared and read-only. Load with `weights.load_thinker`.

    `embedding` is [vocab, D]; `head` maps D to vocab and is not tied to it. The embedding stays in the memory of the
    host, where its few rows of a step are looked up; so it takes none of a GPU's.
    """

    stack: Stack
    embedding: torch.Tensor
    head: Linear
    tower: AudioTower
    mel: MelFilters
    tokens: TokenIds

    @property
    def config(self) -> StackConfig:
        """Dimensions of the text stack."""
        return self.stack.config

    def new_prompt(self, cached: int = 0) -> PromptEmbeddings:
        """An empty prompt, of whose positions the first `cached` are in the KV cache."""
        return PromptEmbeddings(
            self.embedding, self.mel, self.tower.chunk_frames, cached=cached, device=self.stack.device
        )

    @torch.inference_mode()
    def forward(self, embeddings: torch.Tensor, memory: AttentionBackend) -> torch.Tensor:
        """Embeddings [R, D] -> hidden [R, D] after the final norm. `memory` says where keys and values go."""
        return self.stack(embeddings, memory)

    @torch.inference_mode()
    def choose(self, hidden: torch.Tensor) -> list[int]:
        """Greedy tokens of hidden [R, D]."""
        return self.head(hidden).argmax(dim=-1).tolist()

    @torch.inference_mode()
    def choose_other(self, hidden: torch.Tensor, banned_id: int) -> int:
        """The greedy token of hidden [D], which may lie on another device, without a token that must not be chosen."""
        logits = self.head(hidden.to(self.stack.device)[None])[0]
        logits[banned_id] = -torch.inf
        return int(logits.argmax())
