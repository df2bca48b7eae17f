"""How well turn detection ignores the echo of the speech that is played: `python -m bench.quality.echo`.

A loudspeaker plays replies (the voices in `samples/`) into a microphone through a room, at several levels below the
user's own voice and with several delays. A user speaks during each second reply. The table says how many replies their
own echo interrupts, how many users are found within 1.5 s, and how late, with the option and without it.
"""

from __future__ import annotations

import argparse
import itertools
from dataclasses import dataclass

import numpy as np
import soundfile
import soxr

from gateway.audio.echo import EchoDetector, PlayedSpeech
from gateway.conversation.vad import Started, TurnDetection, TurnDetector
from services.common.wire.audio import HEARING_RATE_HZ, SAMPLE_RATE_HZ
from services.common.wire.pcm import Samples
from tests.support.paths import SAMPLES

_VOICES = ("voices/amber.flac", "voices/basil.flac", "voices/coral.flac", "voices/dale.flac", "voice_librivox_7s.flac")
_USERS = ("utterance_librivox_3s.flac", "question_make_taco.wav")
_USER_DB, _NOISE_DB = -23.0, -60.0
_PIECE_S = 0.02
_QUIET_S = 1.0
"""The microphone is open for so long before the reply begins."""
_SPEAKS_AT_S, _FOUND_WITHIN_S = 1.5, 1.5


@dataclass(frozen=True)
class Place:
    """Where the loudspeaker and the microphone are. `echo_db`: the level of the echo against the user's voice.
    `direct_db`: the level of the sound that comes directly against that which comes by the room."""

    echo_db: float
    delay_s: float
    reverberation_s: float
    direct_db: float


def recording(name: str, rate_hz: int) -> Samples:
    """A recording with an RMS of 1."""
    sound, from_hz = soundfile.read(SAMPLES / name, dtype="float32")
    sound = soxr.resample(sound, from_hz, rate_hz)
    return (sound / np.sqrt(np.mean(np.square(sound)))).astype(np.float32)


def echo_of(reply: Samples, place: Place, rng: np.random.Generator) -> Samples:
    """The reply, RMS 1 at 16 kHz, as the microphone takes it."""
    count = max(1, round(place.reverberation_s * HEARING_RATE_HZ))
    response = rng.standard_normal(count) * np.exp(-6.9 * np.arange(count) / count)
    response[0] = 0.0
    response /= max(1e-9, float(np.sqrt(np.sum(np.square(response)))))
    response[0] = 10 ** (place.direct_db / 20)
    response = np.convolve(response, [1.0, -0.7])  # a small loudspeaker has no bass
    sound = np.convolve(reply, response)[: len(reply)]
    sound *= 10 ** ((_USER_DB + place.echo_db) / 20) / np.sqrt(np.mean(np.square(sound)))
    return np.concatenate([np.zeros(round((_QUIET_S + place.delay_s) * HEARING_RATE_HZ)), sound]).astype(np.float32)


def started_s(reply: Samples, microphone: Samples, *, ignore_echo: bool) -> float | None:
    """When turn detection finds a turn, in seconds since the microphone was opened. None: it finds none."""
    now_s = 0.0
    played = PlayedSpeech(SAMPLE_RATE_HZ)
    echo = EchoDetector(played, HEARING_RATE_HZ, lambda: now_s) if ignore_echo else None
    detector = TurnDetector(TurnDetection(), HEARING_RATE_HZ, echo)
    played.add(0, reply, _QUIET_S)
    step = round(_PIECE_S * HEARING_RATE_HZ)
    for end in range(step, len(microphone), step):
        now_s = end / HEARING_RATE_HZ
        if any(isinstance(found, Started) for found in detector.push(microphone[end - step : end])):
            return now_s
    return None


def measure(place: Place, trials: int, *, ignore_echo: bool) -> tuple[float, float, float]:
    """The share of replies that their echo interrupts, the share of users that are found, and their median delay."""
    rng = np.random.default_rng(round(1000 * (place.delay_s + place.reverberation_s) - place.echo_db))
    voices = [(recording(name, SAMPLE_RATE_HZ), recording(name, HEARING_RATE_HZ)) for name in _VOICES]
    users = [recording(name, HEARING_RATE_HZ) * np.float32(10 ** (_USER_DB / 20)) for name in _USERS]
    interrupted = found = 0
    delays_s: list[float] = []
    for trial in range(trials):
        reply, heard = voices[trial % len(voices)]
        microphone = echo_of(heard, place, rng)
        microphone += rng.standard_normal(len(microphone)).astype(np.float32) * np.float32(10 ** (_NOISE_DB / 20))
        interrupted += started_s(reply, microphone, ignore_echo=ignore_echo) is not None
        user = users[trial % len(users)]
        at = round((_QUIET_S + _SPEAKS_AT_S + rng.uniform(0, 0.5)) * HEARING_RATE_HZ)
        both = np.concatenate([microphone, np.zeros(max(0, at + len(user) - len(microphone)), np.float32)])
        both[at : at + len(user)] += user
        start_s = started_s(reply, both, ignore_echo=ignore_echo)
        if start_s is not None and 0 <= (delay_s := start_s - at / HEARING_RATE_HZ) <= _FOUND_WITHIN_S:
            found += 1
            delays_s.append(delay_s)
    return interrupted / trials, found / trials, float(np.median(delays_s)) if delays_s else float("nan")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=20, help="replies for each row")
    trials: int = parser.parse_args().trials
    print("| echo | delay | room | interrupted by its echo, off / on | users found, off / on | delay, off / on |")
    print("|---|---|---|---|---|---|")
    rooms = ((0.0, 0.0, "none"), (0.4, 0.0, "near"), (0.4, -10.0, "far"))
    levels_db, delays_s = (-120.0, -30.0, -20.0, -12.0, -6.0), (0.05, 0.4)
    for echo_db, (room_s, direct_db, room), delay_s in itertools.product(levels_db, rooms, delays_s):
        place = Place(echo_db, delay_s, room_s, direct_db)
        off, on = (measure(place, trials, ignore_echo=ignored) for ignored in (False, True))
        cells = [f"{off[index]:.0%} / {on[index]:.0%}" for index in (0, 1)]
        times = f"{off[2] * 1000:.0f} / {on[2] * 1000:.0f} ms"
        print(f"| {echo_db:.0f} dB | {delay_s * 1000:.0f} ms | {room} | {' | '.join(cells)} | {times} |", flush=True)


if __name__ == "__main__":
    main()
