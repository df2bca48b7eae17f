"""Random tensors of all stages of training, for a checkpoint like nano."""

from __future__ import annotations

from typing import Any

import torch

from checkpoints.random_weights import RandomWeights
from checkpoints.tensor_names import expected_tensors
from services.runtime.checkpoint.checkpoint import AUDIO_TABLE_NAMES
from services.runtime.checkpoint.config import ChromaConfig
from train.corpus.vocabulary import nano_vocabulary, text_embedding
from train.pack import assemble
from train.pack.config import nano_config

SMALL = {
    **nano_config(),
    "codec_config": {**nano_config()["codec_config"], "num_filters": 4, "num_hidden_layers": 1},
}
"""nano with a narrower codec: where the weights themselves do not matter."""


def random_tensors(config: dict[str, Any]) -> dict[str, torch.Tensor]:
    """What the stages leave, and the text table, as far as names and shapes go."""
    typed = ChromaConfig.from_dict(config)
    weights = RandomWeights(typed, nano_vocabulary().words(), seed=0)
    tensors = {
        name: torch.cat(list(weights.blocks(name, shape)))
        for name, shape in expected_tensors(typed).items()
        if name != AUDIO_TABLE_NAMES[0]
    }
    return {**tensors, assemble.TEXT_TABLE: text_embedding()}
