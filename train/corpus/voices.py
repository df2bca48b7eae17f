"""The synthetic voices of the corpus: four reply voices, many voices that ask, speakers to clone, and strangers.

The names of the voices are ours; the styles are Kokoro's.
"""

from __future__ import annotations

import random
import tomllib
import warnings
from dataclasses import dataclass
from functools import cache
from itertools import combinations, count
from pathlib import Path

from train.audio.sound import Voice
from train.corpus.tts.espeak import Espeak
from train.corpus.tts.flite import find_flite
from train.corpus.tts.kokoro import Kokoro

REPLY_VOICES = {
    # name: Kokoro's style, speed
    "amber": ("af_heart", 1.0),
    "basil": ("am_puck", 0.9),
    "coral": ("bf_emma", 1.0),
    "dale": ("bm_george", 1.0),
}
"""Two women and two men, one of each American and one British; pairwise Resemblyzer cosine 0.47 to 0.66."""

ALIKE_FILE = Path(__file__).with_name("alike_speakers.toml")

_KOKORO_ASKS = (
    *("af_heart", "af_bella", "af_alloy", "af_aoede", "af_jessica", "af_kore", "af_nicole", "af_nova", "af_river"),
    *("am_puck", "am_fenrir", "am_adam", "am_echo", "am_liam", "am_michael", "am_onyx"),
    *("bf_emma", "bf_alice", "bf_isabella", "bm_george", "bm_fable", "bm_lewis"),
)
_KOKORO_BETWEEN = 38
"""Number of voices that are the mean of two of the voices above, always the same pairs; they say paraphrases."""

_KOKORO_CLONED = 240
"""Number of speakers to clone that are mixtures of two of the voices above, in any proportion, at another pitch. They
are always the same."""
_KOKORO_KEPT = 12
"""The last of these speakers: no stage hears them, and trials during training clone them."""
_MIN_SHARE = 0.15
_CLONED_SHIFTS = (0.88, 1.14)

_KOKORO_HELD_OUT = ("af_sarah", "am_eric", "bf_lily", "bm_daniel")
_KOKORO_STRANGERS = ("af_sky", "am_santa", "if_sara", "im_nicola")
"""Two English styles and two Italian ones, which speak English here: voices that only enrol, only for measurement."""

_FLITE_ASKS = {
    "slt": (0.84, 0.92, 1.0, 1.07, 1.14),
    "rms": (0.86, 0.93, 1.0, 1.09, 1.18, 1.28),
    "awb": (0.86, 0.93, 1.0, 1.09, 1.18),
}
_FLITE_HELD_OUT = "kal16"

_ESPEAK_LANGUAGES = ("en-us", "en", "en-gb-scotland", "en-gb-x-rp", "en-us-nyc", "en-gb-x-gbclan", "en-gb-x-gbcwmd")
_ESPEAK_PITCHES = (50, 35, 65, 25, 80)
_ESPEAK_ASKS = ("m1", "f1", "m2", "f3", "m3", "f4", "m4", "f5", "m6", "m7", "m8", "Andy", "linda", "mike2", "steph")
_ESPEAK_PER_VARIANT = 3
_ESPEAK_HELD_OUT = (("en-us+m5", 45), ("en+f2", 55))


@dataclass(frozen=True)
class EngineVoices:
    """The voices of one engine. Training never uses those of `held_out`."""

    trained: tuple[Voice, ...]
    held_out: tuple[Voice, ...]


@dataclass(frozen=True)
class AskingVoices:
    """The voices that ask, by engine."""

    kokoro: EngineVoices
    flite: EngineVoices
    espeak: EngineVoices
    mixtures: tuple[Voice, ...] = ()
    """Mixtures of two Kokoro voices each, for paraphrases."""

    @property
    def trained(self) -> tuple[Voice, ...]:
        """The voices of all engines for training."""
        return (*self.kokoro.trained, *self.mixtures, *self.flite.trained, *self.espeak.trained)

    @property
    def held_out(self) -> tuple[Voice, ...]:
        """The voices of all engines that training never uses."""
        return (*self.kokoro.held_out, *self.flite.held_out, *self.espeak.held_out)


@dataclass(frozen=True)
class Speakers:
    """The speakers whose voices the speech model learns to clone, beside the reply voices."""

    trained: tuple[Voice, ...]
    kept: tuple[Voice, ...]
    """Speakers for trials during training; no stage trains on them."""


@cache
def alike_speakers() -> frozenset[str]:
    """The names of speakers that are left out because each is almost the same as another one."""
    listed: dict[str, list[str]] = tomllib.loads(ALIKE_FILE.read_text(encoding="utf-8"))
    return frozenset(name for names in listed.values() for name in names)


class VoiceEngines:
    """The speech engines and their voices. Each engine loads when it first speaks and downloads into `root`."""

    def __init__(self, root: Path) -> None:
        self._espeak = Espeak()
        self._kokoro = Kokoro(root / "downloads", self._espeak)
        self._root = root

    def reply_voices(self) -> tuple[Voice, ...]:
        """The four voices that the speech model learns."""
        return tuple(self._kokoro.voice(name, style, pace) for name, (style, pace) in REPLY_VOICES.items())

    def asking_voices(self) -> AskingVoices:
        """Every voice that asks. With neither flite nor apt, warns and omits flite's voices."""
        return AskingVoices(self._kokoro_voices(), self._flite_voices(), self._espeak_voices(), self._kokoro_mixtures())

    def speakers(self, *, with_alike: bool = False) -> Speakers:
        """The speakers to clone: Kokoro's styles and mixtures of two, and the asking voices of flite and espeak-ng.

        The styles of the reply voices are not among them. Speakers that are almost the same as another one are only
        there `with_alike`. With neither flite nor apt, warns and omits flite's voices.
        """
        of_reply_voices = {style for style, _ in REPLY_VOICES.values()}
        styles = (
            self._kokoro.voice(f"kokoro_{style}", style) for style in _KOKORO_ASKS if style not in of_reply_voices
        )
        mixtures = self._kokoro_cloned()
        trained = (
            *styles,
            *mixtures[:-_KOKORO_KEPT],
            *self._flite_voices().trained,
            *self._espeak_voices().trained,
        )
        left_out = frozenset[str]() if with_alike else alike_speakers()
        return Speakers(tuple(voice for voice in trained if voice.name not in left_out), mixtures[-_KOKORO_KEPT:])

    def strangers(self) -> tuple[Voice, ...]:
        """Voices that only enrol, only for measurement, beside those of `asking_voices` that are held out."""
        return tuple(self._kokoro.voice(f"kokoro_{style}", style) for style in _KOKORO_STRANGERS)

    def _kokoro_voices(self) -> EngineVoices:
        trained, held_out = (
            tuple(self._kokoro.voice(f"kokoro_{style}", style) for style in styles)
            for styles in (_KOKORO_ASKS, _KOKORO_HELD_OUT)
        )
        return EngineVoices(trained, held_out)

    def _kokoro_mixtures(self) -> tuple[Voice, ...]:
        pairs = random.Random(0).sample(list(combinations(_KOKORO_ASKS, 2)), _KOKORO_BETWEEN)
        return tuple(self._kokoro.voice(f"kokoro_{one}_{other}", f"{one}+{other}") for one, other in pairs)

    def _kokoro_cloned(self) -> tuple[Voice, ...]:
        draw = random.Random(1)
        voices = []
        for number in range(_KOKORO_CLONED):
            one, other = draw.sample(_KOKORO_ASKS, 2)
            share, shift = draw.uniform(_MIN_SHARE, 1 - _MIN_SHARE), draw.uniform(*_CLONED_SHIFTS)
            style = f"{one}*{share:.3f}+{other}*{1 - share:.3f}"
            voices.append(self._kokoro.voice(f"kokoro_mixture_{number:03d}", style, shift=shift))
        return tuple(voices)

    def _flite_voices(self) -> EngineVoices:
        flite = find_flite(self._root / "debian")
        if flite is None:
            warnings.warn("no flite on PATH and no apt to fetch it: its voices are left out", stacklevel=2)
            return EngineVoices((), ())
        trained = tuple(
            flite.voice(f"flite_{speaker}_{round(100 * shift):03d}", speaker, shift)
            for speaker, shifts in _FLITE_ASKS.items()
            for shift in shifts
        )
        return EngineVoices(trained, (flite.voice(f"flite_{_FLITE_HELD_OUT}", _FLITE_HELD_OUT, 1.0),))

    def _espeak_voices(self) -> EngineVoices:
        """The voices of espeak-ng: each variant in three accents, at three pitches."""
        numbers = count()
        trained = tuple(
            self._espeak_voice(
                f"{_ESPEAK_LANGUAGES[number % len(_ESPEAK_LANGUAGES)]}+{variant}",
                _ESPEAK_PITCHES[number % len(_ESPEAK_PITCHES)],
            )
            for variant in _ESPEAK_ASKS
            for number in (next(numbers) for _ in range(_ESPEAK_PER_VARIANT))
        )
        return EngineVoices(trained, tuple(self._espeak_voice(variant, pitch) for variant, pitch in _ESPEAK_HELD_OUT))

    def _espeak_voice(self, variant: str, pitch: int) -> Voice:
        return self._espeak.voice(f"espeak_{variant.replace('+', '_')}_{pitch}", variant, pitch)
