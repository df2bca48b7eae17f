# ruff: noqa: RUF001 (phonemes)
"""train/corpus/tts/espeak.py and Kokoro's front end with the real espeak-ng, where the extra `train` is installed."""

from __future__ import annotations

import numpy as np
import pytest

from train.corpus.tts.espeak import Espeak

pytest.importorskip("espeakng_loader")


@pytest.fixture(scope="module")
def espeak() -> Espeak:
    return Espeak()


def test_parts_of_a_sound_are_tied(espeak: Espeak) -> None:
    assert espeak.phonemes("name", "en-us") == "nˈe^ɪm"


def test_a_faster_voice_takes_less_time(espeak: Espeak) -> None:
    voice = espeak.voice("quick", "en-us+f3", 60)
    usual, fast = voice.say("how do I make a taco", 1.0), voice.say("how do I make a taco", 1.3)
    assert 1.15 < usual.seconds / fast.seconds < 1.45
    assert np.abs(usual.samples).max() > 0.1


def test_a_voice_that_does_not_exist_is_refused(espeak: Espeak) -> None:
    with pytest.raises(ValueError, match="no voice 'xx'"):
        espeak.say("hello", "xx", 50, 1.0)
