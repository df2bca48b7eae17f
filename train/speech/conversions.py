"""The targets of the speech model for speakers to clone: replies of the reply voices, converted to each speaker.

A speaker is imitated by that copy of a reply voice at another pitch which is nearest by its speaker embedding. The mean
of its components is moved to the mean of the speaker's. So every speaker says every sentence, in the timing and in the
manner of a reply voice, which the model knows already, and nothing differs from speaker to speaker but the voice.
Recordings of the speakers differ in everything: as targets they took the words from the model (docs/nano.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from services.runtime.checkpoint.tokenizer import Tokenizer
from train.codec.codes import load_quantizer, made
from train.codec.patch_quantizer import PatchQuantizer
from train.corpus.clip_index import read_speech
from train.corpus.copies import reply_voice_of, with_copies

TokenIds = tuple[int, ...]


@dataclass(frozen=True)
class Performance:
    """How one voice says a sentence: components [T, D], and how much of each frame is speech, [T], 0 to 1."""

    components: Tensor
    loud: Tensor


@dataclass(frozen=True)
class VoiceFigures:
    """What is known of a voice: its speaker embedding [E] of length 1 and the mean components [D] of its speech."""

    print: Tensor
    mean: Tensor


class Conversions:
    """Converts sentences to speakers. `performances` are those of the reply voices and of their copies, by voice."""

    def __init__(
        self,
        quantizer: PatchQuantizer,
        performances: Mapping[str, Mapping[TokenIds, Performance]],
        voices: Mapping[str, VoiceFigures],
    ) -> None:
        self._quantizer, self._performances, self._voices = quantizer, performances, voices
        known = list(performances)
        prints = torch.stack([voices[voice].print for voice in known])
        self._nearest = {name: known[int((prints @ figures.print).argmax())] for name, figures in voices.items()}

    def nearest(self, speaker: str) -> str:
        """The reply voice, or copy of one, that imitates the speaker. Raises `KeyError` for an unknown speaker."""
        return self._nearest[speaker]

    def codes(self, speaker: str, token_ids: TokenIds) -> np.ndarray:
        """The codes int64 [T, K] of a sentence by this speaker. Raises `KeyError` for an unknown one of both."""
        imitator = self._nearest[speaker]
        said = self._performances[imitator][token_ids]
        offset = self._voices[speaker].mean - self._voices[imitator].mean
        return self._quantizer.encode(said.components + said.loud[:, None] * offset).numpy()


def load_voices(root: Path) -> dict[str, VoiceFigures]:
    """The figures of every voice. Raises `FileNotFoundError` with the name of the stage that has not run."""
    tensors = load_file(made(root / "voices.safetensors"))
    return {name: VoiceFigures(tensors[name], tensors[f"{name}@mean"]) for name in tensors if "@" not in name}


def load_conversions(root: Path, tokenizer: Tokenizer, speakers: Sequence[str]) -> Conversions:
    """The conversions to these speakers and to the reply voices' copies. Raises like `load_voices`."""
    stored = load_file(made(root / "performances.safetensors"))
    performances: dict[str, dict[TokenIds, Performance]] = {}
    for spoken in with_copies(read_speech(root / "audio")):
        if reply_voice_of(spoken.voice) and spoken.key in stored:
            said = Performance(stored[spoken.key].float(), stored[f"{spoken.key}@loud"].float())
            performances.setdefault(spoken.voice, {})[tuple(tokenizer.encode(spoken.clip.text))] = said
    voices = load_voices(root)
    wanted = {name: voices[name] for name in dict.fromkeys([*performances, *speakers])}
    return Conversions(load_quantizer(root), performances, wanted)
