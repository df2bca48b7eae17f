"""Reads uploaded recordings into mono samples at 24 kHz."""

from __future__ import annotations

import io

import numpy as np
import pytest
import soundfile

from gateway.audio.read import MAX_FILE_BYTES, read_recording
from services.common.errors import InvalidArgument
from services.common.wire.pcm import Samples


def _tone(seconds: float, rate_hz: int) -> Samples:
    return (0.3 * np.sin(2 * np.pi * 440 * np.arange(int(seconds * rate_hz)) / rate_hz)).astype(np.float32)


def _file(samples: Samples, rate_hz: int) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate_hz, format="WAV", subtype="FLOAT")
    return file.getvalue()


async def test_a_mono_file_at_24_khz_comes_through_bit_for_bit() -> None:
    samples = _tone(1.5, 24_000)
    assert np.array_equal(await read_recording(_file(samples, 24_000)), samples)


async def test_stereo_is_the_mean_of_its_channels() -> None:
    left = _tone(1.5, 24_000)
    both = np.stack([left, np.zeros_like(left)], axis=1)
    assert np.allclose(await read_recording(_file(both, 24_000)), left / 2)


@pytest.mark.parametrize("rate_hz", [8_000, 44_100, 48_000])
async def test_other_rates_become_24_khz(rate_hz: int) -> None:
    read = await read_recording(_file(_tone(1.5, rate_hz), rate_hz))
    assert len(read) == 36_000
    middle = slice(2_000, 34_000)
    assert np.abs(read[middle] - _tone(1.5, 24_000)[middle]).max() < 1e-2


@pytest.mark.parametrize("length_s", [1.0, 30.0])
async def test_the_limits_themselves_are_allowed(length_s: float) -> None:
    assert len(await read_recording(_file(_tone(length_s, 8_000), 8_000))) == int(length_s * 24_000)


async def test_a_header_that_promises_more_than_the_file_holds_is_accepted() -> None:
    file = bytearray(_file(_tone(3.0, 24_000), 24_000))
    del file[len(file) // 2 :]
    with pytest.raises(InvalidArgument):
        await read_recording(bytes(file[:60]))
    assert len(await read_recording(bytes(file))) < 3 * 24_000


@pytest.mark.parametrize(
    ("samples", "rate_hz", "expected"),
    [
        (np.zeros(24_000, dtype=np.float32), 24_000, "got silence"),
        (_tone(0.9, 24_000), 24_000, "1 to 30 s"),
        (_tone(31.0, 8_000), 8_000, "1 to 30 s"),
        (_tone(1.5, 4_000), 4_000, "8000 to 48000 Hz"),
        (np.full(24_000, np.nan, dtype=np.float32), 24_000, "finite"),
        (np.zeros((24_000, 3), dtype=np.float32), 24_000, "mono or stereo"),
    ],
)
async def test_a_recording_that_makes_no_voice_is_refused(samples: Samples, rate_hz: int, expected: str) -> None:
    with pytest.raises(InvalidArgument, match=expected):
        await read_recording(_file(samples, rate_hz))


async def test_a_file_of_another_kind_is_refused() -> None:
    for file in (b"", b"/etc/passwd", bytes(MAX_FILE_BYTES + 1)):
        with pytest.raises(InvalidArgument):
            await read_recording(file)
