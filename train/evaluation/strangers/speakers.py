"""Strangers: speakers whom no stage of training has heard. They are held-out voices and a reader of LibriVox."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from chroma_voice.local.repository import SampleVoice
from train.corpus.clip_index import Clip

_READER = "librivox"
_READINGS = ("voice_librivox_7s.flac", "voice_librivox_5s.flac", "utterance_librivox_3s.flac")
_ENGINES = {"kokoro": "Kokoro", "flite": "flite", "espeak": "espeak-ng", _READER: "a person"}

Strangers = Mapping[str, Sequence[SampleVoice]]
"""The prompts of each speaker, at least two, each to enrol under its own id. The ids of all speakers differ."""


@dataclass(frozen=True)
class StrangerReply:
    """A sentence to speak after a prompt."""

    prompt: SampleVoice
    text: str


def engine_of(speaker: str) -> str:
    """What made the recordings of a speaker, in words. Raises `KeyError` for a name of another form."""
    return _ENGINES[speaker.partition("_")[0]]


def strangers_of(checkout: Path, clips: Iterable[Clip], audio: Path) -> Strangers:
    """The strangers with their prompts: the held-out prompts of `clips` and the readings in the samples of a checkout.

    Paths of clips are relative to `audio`.
    """
    prompts: defaultdict[str, list[SampleVoice]] = defaultdict(list)

    def add(speaker: str, recording: Path, text: str, source: str) -> None:
        voice_id = f"{speaker}-{len(prompts[speaker]) + 1}"
        prompts[speaker].append(SampleVoice(voice_id, recording, text, source))

    for clip in clips:
        if clip.held_out and clip.role == "prompt":
            add(clip.voice, audio / clip.path, clip.text, "synthetic: see train/SOURCES.md")
    described = json.loads((checkout / "samples" / "audio.json").read_text(encoding="utf-8"))
    for name in _READINGS:
        add(_READER, checkout / "samples" / name, described[name]["transcript"], described[name]["source"])
    return dict(prompts)


def replies_to(strangers: Strangers, sentences: Sequence[str]) -> list[StrangerReply]:
    """Every sentence once after a prompt of every speaker, after the speaker's prompts by turns."""
    return [
        StrangerReply(prompts[number % len(prompts)], text)
        for prompts in strangers.values()
        for number, text in enumerate(sentences)
    ]
