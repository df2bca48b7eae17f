"""The speech model's part of the corpus: recordings as targets and as prompts, by voice."""

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
from train.speech.examples import CodedRecording

PROMPT_WEIGHT = 0.3
"""Weight of a prompt's sentence as a target; a reply has weight 1. No reply has these sentences, but they show more of
the voice."""

RESERVED_PROMPTS = 2
"""Number of each voice's prompts that training never uses: trials enrol the voice with them."""


@dataclass(frozen=True)
class SpeechRecordings:
    """Recordings by reply voice.

    Training uses `replies`, and `strangers`: the recordings of unknown voices under their nearest reply voice, one list
    for each. `reserved` are prompts of the reply voices that training does not use.
    """

    replies: Mapping[str, Sequence[CodedRecording]]
    strangers: Mapping[str, Sequence[Sequence[CodedRecording]]]
    reserved: Mapping[str, Sequence[CodedRecording]]


def load_recordings(root: Path, tokenizer: Tokenizer) -> SpeechRecordings:
    """The recordings under `root`. Raises `FileNotFoundError` with the name of the stage that has not run.

    The codes of a clip and of its variants (`PATH@...`) come from codes.safetensors. Clips without codes are left out,
    and clips of voices that are equally near to two reply voices.
    """
    codes_file = root / "codes.safetensors"
    if not codes_file.exists():
        raise FileNotFoundError(f"{codes_file}: not there; run python -m train.codec.codes")
    variants: dict[str, list[np.ndarray]] = defaultdict(list)
    for name, codes in sorted(load_file(codes_file).items()):  # a path comes before its variants in the sorted order
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
    replies, reserved = defaultdict[str, list[CodedRecording]](list), defaultdict[str, list[CodedRecording]](list)
    strangers = defaultdict[str, list[list[CodedRecording]]](list)
    for voice, spoken in by_voice.items():
        recordings = [
            CodedRecording(
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
