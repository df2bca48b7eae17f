"""The speech model's part of the corpus: recordings as targets and as prompts, by voice."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from services.runtime.checkpoint.tokenizer import Tokenizer
from train.corpus.clip_index import Clip, read_speech
from train.corpus.copies import Spoken, with_copies
from train.corpus.voices import REPLY_VOICES
from train.speech.examples import CodedRecording

PROMPT_WEIGHT = 0.3
"""Weight of a prompt's sentence as a target; a reply has weight 1. No reply has these sentences, but they show more of
the voice."""

RESERVED_PROMPTS = 2
"""Number of each reply voice's prompts that training never uses: trials enrol the voice with them."""


@dataclass(frozen=True)
class SpeechRecordings:
    """Recordings by voice.

    Training uses `replies`, those of the reply voices, and `speakers`, the prompts by the speakers to clone and by all
    copies at another pitch (`train.corpus.copies`). `reserved` are prompts of the reply voices that training does not
    use. `kept` are prompts of held-out voices.
    """

    replies: Mapping[str, Sequence[CodedRecording]]
    speakers: Mapping[str, Sequence[CodedRecording]]
    reserved: Mapping[str, Sequence[CodedRecording]]
    kept: Mapping[str, Sequence[CodedRecording]]


def load_recordings(root: Path, tokenizer: Tokenizer) -> SpeechRecordings:
    """The recordings under `root`. Raises `FileNotFoundError` with the name of the stage that has not run.

    The codes come from codes.safetensors (`train.codec.codes`). Clips without codes are left out, and speakers with
    fewer than two clips, in an unfinished corpus.
    """
    codes_file = root / "codes.safetensors"
    if not codes_file.exists():
        raise FileNotFoundError(f"{codes_file}: not there; run python -m train.codec.codes")
    variants: dict[str, list[np.ndarray]] = defaultdict(list)
    for name, codes in sorted(load_file(codes_file).items()):  # a key comes before its variants in the sorted order
        variants[name.partition("@")[0]].append(codes.astype(np.int64))
    coded = [spoken for spoken in with_copies(read_speech(root / "audio")) if spoken.key in variants]
    reserved_texts = reserved_prompts([spoken.clip for spoken in coded])
    of_part = {
        part: defaultdict[str, list[CodedRecording]](list) for part in ("replies", "speakers", "reserved", "kept")
    }
    for spoken in coded:
        recording = CodedRecording(
            tuple(tokenizer.encode(spoken.clip.text)),
            tuple(variants[spoken.key]),
            1.0 if spoken.clip.role == "reply" else PROMPT_WEIGHT,
        )
        of_part[_part(spoken, reserved_texts)][spoken.voice].append(recording)
    speakers = {voice: own for voice, own in of_part["speakers"].items() if len(own) > 1}
    return SpeechRecordings(of_part["replies"], speakers, of_part["reserved"], of_part["kept"])


def reserved_prompts(clips: Sequence[Clip]) -> frozenset[str]:
    """The sentences of the reply voices' reserved prompts: their last ones."""
    own = [clip.text for clip in clips if clip.role == "prompt" and clip.voice in REPLY_VOICES]
    return frozenset(list(dict.fromkeys(own))[-RESERVED_PROMPTS:])


def _part(spoken: Spoken, reserved_texts: frozenset[str]) -> str:
    if spoken.clip.held_out:
        return "kept"
    if spoken.voice not in REPLY_VOICES:
        return "speakers"
    return "reserved" if spoken.clip.text in reserved_texts else "replies"
