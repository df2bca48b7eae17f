"""The speech model learns a few sentences by heart."""

from __future__ import annotations

import numpy as np
import torch

from checkpoints.presets import preset_config
from services.runtime.checkpoint.config import ChromaConfig
from train.speech.examples import CodedRecording, Corruption, SpeechCorpus
from train.speech.model import SpeechModel
from train.speech.train import new_optimizer, train_step


def tiny() -> ChromaConfig:
    """The tiny preset with 64 codes in a codebook."""
    config = preset_config("tiny")
    config["backbone_config"]["vocab_size"] = config["decoder_config"]["vocab_size"] = 67
    config["codec_config"]["codebook_size"] = 64
    return ChromaConfig.from_dict(config)


def table() -> torch.Tensor:
    config = tiny()
    shape = (config.thinker.vocab_size, config.backbone.width)
    return 0.5 * torch.randn(shape, generator=torch.Generator().manual_seed(0))


def corpus_of(
    replies: dict[str, list[CodedRecording]],
    strangers: dict[str, list[list[CodedRecording]]],
    *,
    corruption: Corruption,
) -> SpeechCorpus:
    return SpeechCorpus(tiny(), table(), replies, strangers, corruption=corruption, seed=0)


def recording(seed: int, *, frames: int = 8, weight: float = 1.0) -> CodedRecording:
    dice = np.random.default_rng(seed)
    codes = dice.integers(1, 50, (frames, 8))
    return CodedRecording(tuple(dice.integers(10, 90, 3).tolist()), (codes, codes + 1), weight)


def test_loss_falls_on_a_few_sentences() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    config = tiny()
    voices = {"low": [recording(1), recording(2)], "high": [recording(3), recording(4)]}
    corpus = corpus_of(voices, {}, corruption=Corruption())
    model = SpeechModel(config, table())
    optimizer = new_optimizer(model)
    for group in optimizer.param_groups:
        group["lr"] = 5e-3
    batches = corpus.batches(4)
    figures = [train_step(model, next(batches), optimizer) for _ in range(100)]
    first, last = figures[0], figures[-1]
    assert first["loss_0"] > 3.5
    assert last["loss_0"] < 1.0
    assert last["loss_depth"] < first["loss_depth"] - 3.0
    assert last["right_0"] > 0.8
