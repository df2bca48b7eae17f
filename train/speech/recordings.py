"""The corpus as the speech model learns it: which recordings are taught, which are prompts, and of which voice."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from services.runtime.checkpoint.tokenizer import Tokenizer
from train.corpus.clip_index import Clip, read_manifest
from train.corpus.voices import nearest_reply_voice
from train.speech.examples import Recording

PROMPT_WEIGHT = 0.3
"""How often a prompt's sentence is taught, a reply's being 1: no reply needs it, but it shows more of the voice."""

RESERVED_PROMPTS = 2
"""Sentences of each voice that are never trained on: the recordings to enrol a voice with when it is tried out."""


@dataclass(frozen=True)
class SpeechRecordings:
    """`replies` by reply voice; `strangers`, each one's together, by the reply voice that is nearest. Training uses
    both; `reserved` are prompts of every reply voice that it does not use.
    """

    replies: Mapping[str, Sequence[Recording]]
    strangers: Mapping[str, Sequence[Sequence[Recording]]]
    reserved: Mapping[str, Sequence[Recording]]


def load_recordings(root: Path, tokenizer: Tokenizer) -> SpeechRecordings:
    """What the stages before have left under `root`. Raises `FileNotFoundError`, naming the stage that is missing.

    A clip's codes, and those of its variants (`PATH@...`), come from codes.safetensors; clips without codes are left
    out, and those of voices that lie between two reply voices.
    """
    codes_file = root / "codes.safetensors"
    if not codes_file.exists():
        raise FileNotFoundError(f"{codes_file}: not there; run python -m train.codec.codes")
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

    nearest_of = nearest_reply_voice()
    replies, reserved = defaultdict[str, list[Recording]](list), defaultdict[str, list[Recording]](list)
    strangers = defaultdict[str, list[list[Recording]]](list)
    for voice, spoken in by_voice.items():
        recordings = [
            Recording(
                tuple(tokenizer.encode(clip.text)),
                tuple(variants[clip.path]),
                1.0 if clip.role == "reply" else PROMPT_WEIGHT,
            )
            for clip in spoken
        ]
        if voice in nearest_of:
            strangers[nearest_of[voice]].append(recordings)
        elif voice in replying:
            for clip, recording in zip(spoken, recordings, strict=True):
                (reserved if clip.text in reserved_texts else replies)[voice].append(recording)
    return SpeechRecordings(replies, strangers, reserved)
