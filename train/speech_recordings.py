"""The corpus as the speech model learns it: which recordings are taught, which are prompts, and of which voice."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from safetensors.numpy import load_file

from services.runtime.tokenizer import Tokenizer
from train.corpus import Clip, read_manifest
from train.speech_corpus import Recording
from train.voice_likeness import likeness_features, nearest_voices

PROMPT_WEIGHT = 0.3
"""How often a prompt's sentence is taught, a reply's being 1: no reply needs it, but it shows more of the voice."""

RESERVED_PROMPTS = 2
"""Sentences of each voice that are never trained on: the recordings to enrol a voice with when it is tried out."""

_LIKENESS_CLIPS = 12


@dataclass(frozen=True)
class SpeechRecordings:
    """`replies` by reply voice; `auxiliary` by the reply voice that their own voice is nearest to; both are trained on.

    `reserved` are prompts of every reply voice that are not.
    """

    replies: Mapping[str, Sequence[Recording]]
    auxiliary: Mapping[str, Sequence[Recording]]
    reserved: Mapping[str, Sequence[Recording]]
    nearest: Mapping[str, str]


def load_recordings(root: Path, tokenizer: Tokenizer) -> SpeechRecordings:
    """What the stages before have left under `root`. Raises `FileNotFoundError`, naming the stage that is missing.

    A clip's codes, and those of its variants (`PATH@...`), come from codes.safetensors; clips without codes are left
    out.
    """
    codes_file = root / "codes.safetensors"
    if not codes_file.exists():
        raise FileNotFoundError(f"{codes_file}: not there; run python -m train.codes")
    variants: dict[str, list[np.ndarray]] = defaultdict(list)
    for name, codes in sorted(load_file(codes_file).items()):  # a path sorts before its variants
        variants[name.partition("@")[0]].append(codes.astype(np.int64))
    clips = [clip for clip in read_manifest(root / "audio" / "replies.jsonl") if clip.path in variants]
    by_voice: dict[str, list[Clip]] = defaultdict(list)
    for clip in clips:
        if not clip.held_out:
            by_voice[clip.voice].append(clip)
    replying = {clip.voice for clip in clips if clip.role == "reply"}
    sentences = list(dict.fromkeys(clip.text for clip in clips if clip.role == "prompt"))
    reserved_texts = set(sentences[-RESERVED_PROMPTS:])
    nearest = _nearest(by_voice, replying, root / "audio")

    replies, auxiliary, reserved = (defaultdict[str, list[Recording]](list) for _ in range(3))
    for voice, spoken in by_voice.items():
        for clip in spoken:
            weight = 1.0 if clip.role == "reply" else PROMPT_WEIGHT
            recording = Recording(tuple(tokenizer.encode(clip.text)), tuple(variants[clip.path]), weight)
            if voice not in replying:
                auxiliary[nearest[voice]].append(recording)
            elif clip.text in reserved_texts:
                reserved[voice].append(recording)
            else:
                replies[voice].append(recording)
    return SpeechRecordings(replies, auxiliary, reserved, nearest)


def _nearest(by_voice: Mapping[str, Sequence[Clip]], replying: set[str], audio: Path) -> dict[str, str]:
    def features(voice: str) -> list[np.ndarray]:
        found = []
        for clip in by_voice[voice][:_LIKENESS_CLIPS]:
            samples, sample_rate_hz = soundfile.read(audio / clip.path, dtype="float32")
            found.append(likeness_features(samples, sample_rate_hz))
        return found

    others = {voice: features(voice) for voice in by_voice if voice not in replying}
    return nearest_voices({voice: features(voice) for voice in sorted(replying)}, others) if others else {}
