"""Turn detection on real speech."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile
import soxr

from gateway.audio.echo import EchoDetector, PlayedSpeech
from gateway.conversation.vad import Started, Stopped, TurnDetection, TurnDetector
from services.common.errors import InvalidArgument
from services.common.wire.pcm import Samples
from tests.support import room_sounds
from tests.support.paths import SAMPLES


def _recording(name: str, rate_hz: int) -> Samples:
    sound, from_hz = soundfile.read(SAMPLES / name, dtype="float32")
    return soxr.resample(sound, from_hz, rate_hz).astype(np.float32)


def _stream(rate_hz: int) -> tuple[Samples, list[tuple[int, int]]]:
    """Two utterances with silence around them, and where the recordings lie in ms."""
    parts: list[Samples] = []
    places: list[tuple[int, int]] = []
    noise = np.random.default_rng(7).standard_normal(2 * rate_hz).astype(np.float32) * 1e-3
    at = 0
    for name in ("utterance_librivox_3s.flac", "question_make_taco.wav"):
        speech = _recording(name, rate_hz)
        parts += [noise, speech]
        places.append(((at + len(noise)) * 1000 // rate_hz, (at + len(noise) + len(speech)) * 1000 // rate_hz))
        at += len(noise) + len(speech)
    return np.concatenate([*parts, noise]), places


def _detect(
    stream: Samples, rate_hz: int, chunk: int, settings: TurnDetection
) -> tuple[list[tuple[int, int]], list[Samples]]:
    """Start and stop of each turn in ms, and its sound."""
    detector = TurnDetector(settings, rate_hz)
    spans: list[tuple[int, int]] = []
    sounds: list[list[Samples]] = []
    start_ms = 0
    for first in range(0, len(stream), chunk):
        for piece in detector.push(stream[first : first + chunk]):
            if isinstance(piece, Started):
                start_ms = piece.at_ms
                sounds.append([])
            elif isinstance(piece, Stopped):
                spans.append((start_ms, piece.at_ms))
            else:
                sounds[-1].append(piece)
    return spans, [np.concatenate(pieces) for pieces in sounds]


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 24_000, 44_100])
def test_each_utterance_is_one_turn_with_prefix_and_silence(rate_hz: int) -> None:
    stream, places = _stream(rate_hz)
    spans, _ = _detect(stream, rate_hz, rate_hz // 50, TurnDetection(silence_ms=500, prefix_ms=300))
    assert len(spans) == len(places)
    for (start_ms, stop_ms), (first_ms, last_ms) in zip(spans, places, strict=True):
        assert first_ms - 300 - 64 <= start_ms < first_ms + 400
        assert last_ms - 500 < stop_ms <= last_ms + 500 + 64


@pytest.mark.parametrize("chunk", [1, 97, 480, 24_000, 10**9])
def test_any_chunking_gives_the_same_turns_to_the_sample(chunk: int) -> None:
    stream, _ = _stream(24_000)
    stream = stream[: 24_000 * 6] if chunk == 1 else stream
    settings = TurnDetection()
    spans, sounds = _detect(stream, 24_000, chunk, settings)
    expected_spans, expected = _detect(stream, 24_000, 4_800, settings)
    assert spans == expected_spans
    assert len(spans) >= 1
    for sound, other in zip(sounds, expected, strict=True):
        assert np.array_equal(sound, other)


def test_the_sound_of_a_turn_is_the_stream_from_its_start_to_its_stop() -> None:
    stream, _ = _stream(16_000)
    spans, sounds = _detect(stream, 16_000, 800, TurnDetection())
    for (start_ms, stop_ms), sound in zip(spans, sounds, strict=True):
        assert np.array_equal(sound, stream[start_ms * 16 : stop_ms * 16])


def test_silence_within_the_limit_keeps_one_turn_and_beyond_it_makes_two() -> None:
    speech = _recording("utterance_librivox_3s.flac", 16_000)
    stream = np.concatenate([speech, np.zeros(16_000 * 7 // 10, np.float32), speech, np.zeros(32_000, np.float32)])
    assert len(_detect(stream, 16_000, 320, TurnDetection(silence_ms=1_200))[0]) == 1
    assert len(_detect(stream, 16_000, 320, TurnDetection(silence_ms=300))[0]) == 2


def test_noise_starts_no_turn() -> None:
    noise = np.random.default_rng(3).standard_normal(16_000 * 5).astype(np.float32) * 0.1
    assert _detect(noise, 16_000, 320, TurnDetection())[0] == []


def test_a_cut_turn_gives_its_rest_and_the_next_one_starts_after_it() -> None:
    speech = _recording("utterance_librivox_3s.flac", 16_000)
    detector = TurnDetector(TurnDetection(), 16_000)
    pieces = list(detector.push(speech[:20_000]))
    heard = np.concatenate([*(piece for piece in pieces if isinstance(piece, np.ndarray)), detector.cut()])
    assert isinstance(pieces[0], Started)
    assert np.array_equal(heard, speech[pieces[0].at_ms * 16 : 20_000])
    (again, *_) = detector.push(speech[20_000:])
    assert isinstance(again, Started)
    assert again.at_ms * 16 >= 20_000
    assert len(detector.cut()) > 0
    assert len(detector.cut()) == 0


@pytest.mark.parametrize("kind", sorted(room_sounds.SHORT))
@pytest.mark.parametrize("level_db", [-35, -20, -8])
@pytest.mark.parametrize("noise_db", [-80, -50])
def test_short_sounds_start_no_turn_however_often_they_come(kind: str, level_db: float, noise_db: float) -> None:
    sounds = [room_sounds.at_level(sound, level_db) for sound in room_sounds.SHORT[kind]()]
    stream = room_sounds.in_noise(sounds, noise_db, gap_ms=300)
    assert _detect(stream, room_sounds.RATE_HZ, 1_600, TurnDetection())[0] == []


@pytest.mark.parametrize("noise_db", [-80, -50])
@pytest.mark.parametrize("level_db", [-30, -12])
def test_a_word_of_a_third_of_a_second_starts_a_turn_before_its_first_sample(level_db: float, noise_db: float) -> None:
    word = room_sounds.at_level(_recording("utterance_librivox_3s.flac", 16_000)[3_200 : 3_200 + 5_600], level_db)
    stream = room_sounds.in_noise([word], noise_db, gap_ms=1_000)
    ((start_ms, _),), _ = _detect(stream, 16_000, 1_600, TurnDetection())
    assert 1_000 - 300 - 32 <= start_ms <= 1_000


def test_the_start_of_a_turn_is_told_after_the_least_speech_and_lies_before_it() -> None:
    speech = _recording("utterance_librivox_3s.flac", 16_000)
    stream = np.concatenate([np.zeros(16_000, np.float32), speech])
    told: dict[int, tuple[int, int]] = {}
    for speech_ms in (0, 200, 400):
        detector = TurnDetector(TurnDetection(speech_ms=speech_ms), 16_000)
        for end in range(160, len(stream), 160):
            if started := [found for found in detector.push(stream[end - 160 : end]) if isinstance(found, Started)]:
                told[speech_ms] = started[0].at_ms, end // 16
                break
    assert told[0][0] == told[200][0] == told[400][0]
    assert 160 <= told[200][1] - told[0][1] <= 260
    assert 350 <= told[400][1] - told[0][1] <= 500


@pytest.mark.parametrize("ignores", [True, False])
def test_the_echo_of_what_is_played_starts_a_turn_only_if_echoes_count(ignores: bool) -> None:
    now_s = 0.0
    played = PlayedSpeech(24_000)
    echo = EchoDetector(played, 16_000, lambda: now_s)
    played.add(0, _recording("voices/amber.flac", 24_000), 1.0)
    stream = np.concatenate([np.zeros(19_200, np.float32), 0.1 * _recording("voices/amber.flac", 16_000)])
    stream = np.concatenate([stream, np.zeros(8_000, np.float32), _recording("utterance_librivox_3s.flac", 16_000)])
    detector = TurnDetector(TurnDetection(), 16_000, echo if ignores else None)
    started_ms = []
    for end in range(320, len(stream), 320):
        now_s = end / 16_000
        started_ms += [found.at_ms for found in detector.push(stream[end - 320 : end]) if isinstance(found, Started)]
    ends_ms = (len(stream) - len(_recording("utterance_librivox_3s.flac", 16_000))) // 16
    if ignores:
        assert len(started_ms) == 1
        assert ends_ms - 400 <= started_ms[0] <= ends_ms + 200
    else:
        assert started_ms[0] < ends_ms - 1_000


def test_quiet_speech_after_a_loud_noise_starts_a_turn() -> None:
    speech = room_sounds.at_level(_recording("utterance_librivox_3s.flac", 16_000), -35)
    loud = np.random.default_rng(5).standard_normal(32_000).astype(np.float32) * 0.3
    assert len(_detect(np.concatenate([loud, speech, np.zeros(16_000, np.float32)]), 16_000, 1_600, TurnDetection())[0])


def test_the_audio_kept_for_a_sound_that_is_no_turn_is_bounded() -> None:
    clicks = room_sounds.in_noise([room_sounds.vowel("a", 64, 120)] * 40, -50, gap_ms=150)
    detector = TurnDetector(TurnDetection(), 16_000)
    for start in range(0, len(clicks), 1_600):
        list(detector.push(clicks[start : start + 1_600]))
        assert len(detector._kept) < 2 * 16_000


@pytest.mark.parametrize(
    "settings",
    [
        TurnDetection(threshold=0),
        TurnDetection(threshold=1),
        TurnDetection(silence_ms=0),
        TurnDetection(prefix_ms=-1),
        TurnDetection(speech_ms=-1),
        TurnDetection(speech_ms=2_001),
    ],
)
def test_settings_out_of_range_are_refused(settings: TurnDetection) -> None:
    with pytest.raises(InvalidArgument):
        TurnDetector(settings, 16_000)
