"""Strangers: speakers that training never uses. They are the held-out voices and the LibriVox reader of the samples."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from chroma_voice.eval.recognition.transcription import load
from chroma_voice.eval.speakers.likeness import Encoder, Voices, direction
from chroma_voice.local.repository import SampleVoice
from train.corpus.clip_index import Clip

_READER = "librivox"
_READINGS = ("voice_librivox_7s.flac", "voice_librivox_5s.flac")


@dataclass(frozen=True)
class Stranger:
    """A stranger who enrols with one `prompt`. `nearest` is the speaker's nearest reply voice."""

    speaker: str
    prompt: SampleVoice
    nearest: str


def strangers_of(
    checkout: Path,
    clips: Sequence[Clip],
    audio: Path,
    replying: Voices,
    encoder: Encoder,
) -> list[Stranger]:
    """All strangers with all their prompts: the held-out prompts of `clips` and the samples of a checkout.

    Paths of clips are relative to `audio`. `replying` are the reply voices.
    """
    prompts: defaultdict[str, list[SampleVoice]] = defaultdict(list)

    def enrol(speaker: str, recording: Path, text: str, source: str) -> None:
        voice_id = f"{speaker}-{len(prompts[speaker]) + 1}"
        prompts[speaker].append(SampleVoice(voice_id, recording, text, source))

    for clip in clips:
        if clip.held_out and clip.role == "prompt":
            enrol(clip.voice, audio / clip.path, clip.text, "synthetic: see train/SOURCES.md")
    described = json.loads((checkout / "samples" / "audio.json").read_text(encoding="utf-8"))
    for name in _READINGS:
        enrol(_READER, checkout / "samples" / name, described[name]["transcript"], described[name]["source"])

    found = []
    for speaker, some in prompts.items():
        vector = direction(encoder(load(prompt.recording)) for prompt in some)
        nearest = max(replying, key=lambda name: float(vector @ replying[name]))
        found += (Stranger(speaker, prompt, nearest) for prompt in some)
    return found


def reply_voices(clips: Iterable[Clip], audio: Path, encoder: Encoder) -> Voices:
    """The voices that say the replies of `clips`. The vector of each is the mean of its prompts."""
    listed = list(clips)
    replying = dict.fromkeys(clip.voice for clip in listed if clip.role == "reply")
    return {
        voice: direction(
            encoder(load(audio / clip.path)) for clip in listed if (clip.voice, clip.role) == (voice, "prompt")
        )
        for voice in replying
    }
