"""Auxiliary task of the speech model's training: tell the speaker's embedding from each hidden state of a speech.

So the backbone learns early to carry the voice of the prompt to every frame. The checkpoint does not hold the head.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from train.speech.batch import SpeechBatch


class SpeakerTask(nn.Module):
    """A linear head from hidden states [N, D] to speaker embeddings. `voice_prints` holds one [E] for each voice."""

    _prints: Tensor

    def __init__(self, width: int, voice_prints: Mapping[str, Tensor]) -> None:
        super().__init__()
        self._numbers = {voice: number for number, voice in enumerate(voice_prints)}
        self.register_buffer("_prints", torch.stack([*voice_prints.values()]), persistent=False)
        self.head = nn.Linear(width, self._prints.shape[1])

    def loss(self, hidden: Tensor, batch: SpeechBatch) -> Tensor:
        """1 minus the mean cosine of what the target frames' states tell and their speakers' embeddings, 0 to 2.

        Raises `KeyError` for a voice without an embedding.
        """
        numbers = torch.tensor([self._numbers[voice] for voice in batch.voices], device=hidden.device)
        wanted = self._prints[numbers[batch.target_at // batch.length]]
        return 1.0 - F.cosine_similarity(self.head(hidden.float()), wanted).mean()
