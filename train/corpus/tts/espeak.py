"""espeak-ng through its C interface: phonemes for Kokoro, and many simple voices for questions.

The library comes from PyPI's espeakng-loader. Its licence is the GPL 3; only its output is used.
"""

from __future__ import annotations

import ctypes
import functools
from dataclasses import dataclass
from typing import Any

import numpy as np

from train.audio.sound import Sound

# speak_lib.h of espeak-ng 1.52
_SYNCHRONOUS = 2
_CHARACTERS_UTF8 = 1
_POSITION_CHARACTER = 1
_RATE, _PITCH = 1, 3
_IPA_TIED = 0x02 | 0x80 | ord("^") << 8
_USUAL_WORDS_PER_MINUTE = 165

_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


class Espeak:
    """The library, loaded at the first use. It holds one voice at a time. Not thread-safe."""

    def __init__(self) -> None:
        self._pieces: list[np.ndarray[Any, np.dtype[np.int16]]] = []
        self._receive = _Callback(self._on_samples)
        self._sample_rate_hz = 0

    def voice(self, name: str, variant: str, pitch: int) -> EspeakVoice:
        """The voice `variant` ("en-us+f3") at `pitch` (0 to 99, default 50), under the name `name`."""
        return EspeakVoice(name, variant, pitch, self)

    def phonemes(self, text: str, language: str) -> str:
        """The IPA of a text, with "^" between the parts of one sound. Raises `ValueError` for an unknown language."""
        self._choose(language)
        rest = ctypes.c_char_p(text.encode())
        clauses = []
        while rest.value is not None:
            clause = self._library.espeak_TextToPhonemes(ctypes.byref(rest), _CHARACTERS_UTF8, _IPA_TIED)
            clauses.append(clause.decode())
        return " ".join(clauses)

    def say(self, text: str, variant: str, pitch: int, speed: float) -> Sound:
        """Speak a text. Raises `ValueError` for an unknown voice, `RuntimeError` when espeak-ng fails."""
        self._choose(variant)
        self._library.espeak_SetParameter(_RATE, round(speed * _USUAL_WORDS_PER_MINUTE), 0)
        self._library.espeak_SetParameter(_PITCH, pitch, 0)
        self._pieces.clear()
        content = text.encode() + b"\0"
        status = self._library.espeak_Synth(
            content, len(content), 0, _POSITION_CHARACTER, 0, _CHARACTERS_UTF8, None, None
        )
        if status != 0 or not self._pieces:
            raise RuntimeError(f"espeak-ng made no sound (status {status}): {text!r}")
        return Sound(np.concatenate(self._pieces).astype(np.float32) / 32768.0, self._sample_rate_hz)

    def _choose(self, variant: str) -> None:
        if self._library.espeak_SetVoiceByName(variant.encode()) != 0:
            raise ValueError(f"espeak-ng has no voice {variant!r}")

    def _on_samples(self, samples: Any, count: int, _events: Any) -> int:
        if samples and count > 0:
            self._pieces.append(np.ctypeslib.as_array(samples, shape=(count,)).copy())
        return 0

    @functools.cached_property
    def _library(self) -> ctypes.CDLL:
        import espeakng_loader  # pyright: ignore[reportMissingImports]  # of the extra `train`

        library = ctypes.CDLL(espeakng_loader.get_library_path())
        library.espeak_SetVoiceByName.argtypes = [ctypes.c_char_p]
        library.espeak_TextToPhonemes.restype = ctypes.c_char_p
        library.espeak_TextToPhonemes.argtypes = [ctypes.POINTER(ctypes.c_char_p), ctypes.c_int, ctypes.c_int]
        library.espeak_Synth.argtypes = [
            ctypes.c_char_p,
            ctypes.c_size_t,
            ctypes.c_uint,
            ctypes.c_int,
            ctypes.c_uint,
            ctypes.c_uint,
            ctypes.c_void_p,
            ctypes.c_void_p,
        ]
        self._sample_rate_hz = library.espeak_Initialize(_SYNCHRONOUS, 0, espeakng_loader.get_data_path().encode(), 0)
        library.espeak_SetSynthCallback(self._receive)
        return library


@dataclass(frozen=True)
class EspeakVoice:
    """One of espeak-ng's voices at one pitch."""

    name: str
    variant: str
    pitch: int
    engine: Espeak

    def say(self, text: str, speed: float) -> Sound:
        """Speak at `speed` times 165 words a minute."""
        return self.engine.say(text, self.variant, self.pitch, speed)
