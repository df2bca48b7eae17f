"""The reasoner for training: whole conversations at once, teacher-forced (docs/model.md, section 7).

Its parameters have the names and shapes of the published checkpoint below `thinker.`. Two tensors stay fixed, because
the speech model is trained separately and depends on them: the table E and the weight of the final norm.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from services.runtime.checkpoint.config import ChromaConfig
from train.causal_stack import CausalStack
from train.hearing.clip_batch import ClipBatch
from train.hearing.model import TrainableAudioTower
from train.reasoner.conversation_batch import ConversationBatch

PREFIX = "thinker."
MAX_POSITIONS = 2_048
"""Most positions of a conversation in training."""


class ReasonerModel(nn.Module):
    """Audio tower, thinker and lm_head. `text_table` [vocab, D] is E."""

    def __init__(self, config: ChromaConfig, text_table: Tensor) -> None:
        super().__init__()
        text = config.thinker.text
        expected = (config.thinker.vocab_size, text.width)
        if tuple(text_table.shape) != expected:
            raise ValueError(f"text table: expected shape {list(expected)}, got {list(text_table.shape)}")
        self.config = config
        self.audio_tower = TrainableAudioTower(config.thinker.audio)
        self.model = CausalStack(text, torch.arange(MAX_POSITIONS))
        self.model.embed_tokens = nn.Embedding.from_pretrained(text_table.float().clone(), freeze=True)
        self.lm_head = nn.Linear(text.width, config.thinker.vocab_size, bias=False)
        self.model.norm.weight.requires_grad_(False)
        self._initialise()

    def audio_embeddings(self, clips: ClipBatch) -> Tensor:
        """The tower's embeddings of all clips, in order: [N, D]."""
        if not len(clips):
            return clips.mel.new_zeros(0, self.config.thinker.text.width)
        return self.audio_tower.encode(clips.mel, clips.mel_frames)

    def hidden(self, batch: ConversationBatch, audio: Tensor) -> Tensor:
        """The hidden states [M, D] after the final norm at `batch.target_at`. `audio` [N, D] is `audio_embeddings`."""
        rows = F.embedding(batch.ids.flatten(), self.model.get_parameter("embed_tokens.weight"))
        rows = rows.index_copy(0, batch.audio_at, audio.to(rows.dtype)).unflatten(
            0, tuple(batch.ids.shape)
        )  # [B, L, D]
        return self.model(rows).flatten(0, 1).index_select(0, batch.target_at)

    def logits(self, hidden: Tensor) -> Tensor:
        """hidden [M, D] -> float32 [M, vocab]."""
        return self.lm_head(hidden).float()

    def artefact(self) -> dict[str, Tensor]:
        """The tensors under their names in the checkpoint."""
        return {PREFIX + name: tensor for name, tensor in self.state_dict().items()}

    def load_artefact(self, tensors: Mapping[str, Tensor]) -> None:
        """Load an artefact's weights. Raises `RuntimeError` for a wrong name or shape."""
        self.load_state_dict({name.removeprefix(PREFIX): tensor for name, tensor in tensors.items()})

    def _initialise(self) -> None:
        """Draw weights that preserve the RMS of the activations, smaller in the outputs of the residual branches."""
        layers = 2 * self.config.thinker.text.layers
        for name, parameter in self.model.named_parameters():
            if parameter.dim() > 1 and parameter.requires_grad:
                gain = layers**-0.5 if name.endswith(("o_proj.weight", "down_proj.weight")) else 1.0
                nn.init.normal_(parameter, std=gain * parameter.shape[1] ** -0.5)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)
        nn.init.normal_(self.lm_head.weight, std=0.02)
