"""The configuration of chroma-nano."""

from __future__ import annotations

from functools import cache
from typing import Any

from checkpoints import presets
from services.runtime.checkpoint.config import ChromaConfig
from train.corpus.vocabulary import nano_special_ids, vocabulary_rows


def nano_config() -> dict[str, Any]:
    """The content of config.json: the preset's dimensions with the vocabulary of the domain."""
    return presets.nano_config(nano_special_ids(), vocabulary_rows())


@cache
def nano() -> ChromaConfig:
    """`nano_config` in the typed form of the services."""
    return ChromaConfig.from_dict(nano_config())
