"""The speech generator of the service beside that of training, with the same random weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from checkpoints.writer import write_checkpoint
from services.runtime.checkpoint.checkpoint import Checkpoint
from services.runtime.checkpoint.config import ChromaConfig
from services.speech_gen.model.generator import Generator
from services.speech_gen.model.weights import load_generator
from train.speech.model import SpeechModel

TEXT_TABLE = "thinker.model.embed_tokens.weight"


@dataclass(frozen=True)
class TinySpeech:
    """Both models of the preset `tiny`."""

    config: ChromaConfig
    generator: Generator
    model: SpeechModel


def tiny_speech(folder: Path) -> TinySpeech:
    """Write the checkpoint and load both."""
    write_checkpoint("tiny", folder, endless=True)
    checkpoint = Checkpoint.open(folder)
    config = ChromaConfig.from_dict(checkpoint.config)
    model = SpeechModel(config, checkpoint.tensor(TEXT_TABLE))
    names = [*checkpoint.names("backbone."), *checkpoint.names("decoder.")]
    model.load_state_dict({name: checkpoint.tensor(name) for name in names})
    return TinySpeech(config, load_generator(checkpoint, slots=1), model)
