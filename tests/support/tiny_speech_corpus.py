"""A corpus for the training of the speech model, of random codes under the tiny preset."""

from __future__ import annotations

import numpy as np
import torch

from checkpoints.presets import preset_config
from services.runtime.checkpoint.config import ChromaConfig
from train.speech.examples import CodedRecording, Corruption, SpeechCorpus


def tiny() -> ChromaConfig:
    """The tiny preset with 64 codes in a codebook."""
    config = preset_config("tiny")
    config["backbone_config"]["vocab_size"] = config["decoder_config"]["vocab_size"] = 67
    config["codec_config"]["codebook_size"] = 64
    return ChromaConfig.from_dict(config)


def table() -> torch.Tensor:
    """Random embeddings of the text: [tokens, width]."""
    config = tiny()
    shape = (config.thinker.vocab_size, config.backbone.width)
    return 0.5 * torch.randn(shape, generator=torch.Generator().manual_seed(0))


def corpus_of(
    replies: dict[str, list[CodedRecording]],
    speakers: dict[str, list[CodedRecording]],
    *,
    corruption: Corruption,
    cloned: float = 0.75,
) -> SpeechCorpus:
    """A corpus of these recordings of reply voices and of speakers to clone, with the codes of `converted`."""
    return SpeechCorpus(
        tiny(), table(), replies, speakers, convert=converted, cloned=cloned, corruption=corruption, seed=0
    )


def converted(speaker: str, token_ids: tuple[int, ...]) -> np.ndarray:
    """Codes [T, 8] that speaker and sentence decide, one frame for each letter of the speaker's name."""
    return np.full((len(speaker), 8), 1 + sum(token_ids) % 50)


def recording(seed: int, *, frames: int = 8, weight: float = 1.0) -> CodedRecording:
    """A recording of a text of three tokens, with codes that the seed decides."""
    dice = np.random.default_rng(seed)
    codes = dice.integers(1, 50, (frames, 8))
    return CodedRecording(tuple(dice.integers(10, 90, 3).tolist()), (codes, codes + 1), weight)
