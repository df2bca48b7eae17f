"""A toy domain whose questions are tones, and recordings of them."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import soundfile as sf

from train.corpus.clip_index import Clip
from train.corpus.domain import Domain, Intent
from train.hearing.auxiliary_tasks import subject_numbers

DOMAIN = Domain(
    intents=tuple(
        Intent(name, "tones", answer, (f"{name} tone",), (f"a {name} tone",))
        for name, answer in (("low", "Good morning."), ("middle", "It is time to go home."), ("high", "No."))
    ),
    outside=("what else",),
    outside_held_out=("who else",),
    outside_answer="I think so.",
    greeting="Hello.",
    repeat=("again",),
    repeat_held_out=("once more",),
    prompts=("Some rain.",),
)
SUBJECTS = subject_numbers(DOMAIN)
HZ = {"low": 150.0, "middle": 600.0, "high": 2_400.0}


def tone_clips(folder: Path) -> list[Clip]:
    """Four recordings of each tone, written into `folder`; the third voice is held out."""
    made: list[Clip] = []
    for (name, hz), number in itertools.product(HZ.items(), range(4)):
        seconds = np.arange(8_000) / 16_000
        path = f"{name}-{number}.wav"
        sf.write(folder / path, 0.2 * np.sin(2 * np.pi * hz * (1 + 0.01 * number) * seconds), 16_000)
        made.append(Clip(path, f"voice{number}", f"{name} tone", "question", name, 0.5, number == 2))
    return made
