"""The reasoner for training: whole conversations at once, with the right replies given (docs/model.md, section 7).

Names and shapes of its parameters are the published checkpoint's under `thinker.`, so that its state is its artefact.
Two tensors are not trained, so that the speech model learns beside it: the table E and the weight of the final norm.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from services.runtime.checkpoint.config import ChromaConfig
from train.causal_stack import CausalStack
from train.hearing.clip_batch import ClipBatch
from train.hearing.model import HearingModel
from train.reasoner.conversation_batch import ConversationBatch

PREFIX = "thinker."
MAX_ROWS = 2_048
"""Of a conversation in training."""


class ReasonerModel(nn.Module):
    """Audio tower, thinker and lm_head. `text_table` [vocab, D] is E."""

    def __init__(self, config: ChromaConfig, text_table: Tensor) -> None:
        super().__init__()
        text = config.thinker.text
        expected = (config.thinker.vocab_size, text.width)
        if tuple(text_table.shape) != expected:
            raise ValueError(f"text table: expected shape {list(expected)}, got {list(text_table.shape)}")
        self.config = config
        self.audio_tower = HearingModel(config.thinker.audio)
        self.model = CausalStack(text, torch.arange(MAX_ROWS))
        self.model.embed_tokens = nn.Embedding.from_pretrained(text_table.float().clone(), freeze=True)
        self.lm_head = nn.Linear(text.width, config.thinker.vocab_size, bias=False)
        self.model.norm.weight.requires_grad_(False)
        self._initialise()

    def heard(self, clips: ClipBatch) -> Tensor:
        """The tower's rows of all clips, in order: [N, D]."""
        if not len(clips):
            return clips.mel.new_zeros(0, self.config.thinker.text.width)
        return self.audio_tower.encode(clips.mel, clips.mel_frames)

    def hidden(self, batch: ConversationBatch, heard: Tensor) -> Tensor:
        """The state after the final norm where a reply's next token is chosen: [M, D]. `heard`: the clips' rows."""
        rows = F.embedding(batch.ids.flatten(), self.model.get_parameter("embed_tokens.weight"))
        rows = rows.index_copy(0, batch.audio_at, heard.to(rows.dtype)).unflatten(
            0, tuple(batch.ids.shape)
        )  # [B, L, D]
        return self.model(rows).flatten(0, 1).index_select(0, batch.target_at)

    def logits(self, hidden: Tensor) -> Tensor:
        """hidden [M, D] -> float32 [M, vocab]."""
        return self.lm_head(hidden).float()

    def artefact(self) -> dict[str, Tensor]:
        """What the checkpoint stores, by its names."""
        return {PREFIX + name: tensor for name, tensor in self.state_dict().items()}

    def load_artefact(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from an artefact's weights. Raises `RuntimeError` where a name or a shape is another."""
        self.load_state_dict({name.removeprefix(PREFIX): tensor for name, tensor in tensors.items()})

    def _initialise(self) -> None:
        """Weights that keep a row's size; what a layer writes back is less, the more layers there are."""
        layers = 2 * self.config.thinker.text.layers
        for name, parameter in self.model.named_parameters():
            if parameter.dim() > 1 and parameter.requires_grad:
                gain = layers**-0.5 if name.endswith(("o_proj.weight", "down_proj.weight")) else 1.0
                nn.init.normal_(parameter, std=gain * parameter.shape[1] ** -0.5)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)
        nn.init.normal_(self.lm_head.weight, std=0.02)
