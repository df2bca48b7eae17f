"""Reads uploaded recordings into mono samples; refuses in words for people what makes no recording."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from gateway.audio.read import MAX_FILE_BYTES, DecodingBudget, read_recording
from gateway.audio.trim import TooLong
from services.common.errors import InvalidArgument
from services.common.wire.pcm import Samples
from tests.support.hostile import HOSTILE, assert_tells_nothing
from tests.support.recordings import by_libsndfile


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
        (_tone(1.5, 4_000), 4_000, "8000 to 192000 Hz"),
        (np.full(24_000, np.nan, dtype=np.float32), 24_000, "finite"),
        (np.zeros((24_000, 9), dtype=np.float32), 24_000, "1 to 8 channels, got 9"),
    ],
)
async def test_a_recording_that_makes_no_voice_is_refused(samples: Samples, rate_hz: int, expected: str) -> None:
    with pytest.raises(InvalidArgument, match=expected):
        await read_recording(_file(samples, rate_hz))


async def test_a_file_of_another_kind_is_refused() -> None:
    for file in (b"", b"/etc/passwd", bytes(MAX_FILE_BYTES + 1)):
        with pytest.raises(InvalidArgument):
            await read_recording(file)


def _header(*fields: int) -> bytes:
    """A WAV file of 1 s whose `fmt ` chunk has these fields: kind, channels, rate, bytes a second, block, bits."""
    fmt = struct.pack("<4sIHHIIHH", b"fmt ", 16, *fields)
    return b"RIFF\xff\xff\xff\xffWAVE" + fmt + struct.pack("<4sI", b"data", 48_000) + b"\x10\x20" * 24_000


_BROKEN = {
    "MPEG-4": (b"\0\0\0\x20ftypM4A \0\0\0\0", "got an M4A file that is broken"),
    "WebM": (b"\x1aE\xdf\xa3\x01\0\0", "got a WebM or Matroska file that is broken"),
    "WMA": (b"0&\xb2u\x8ef\xcf\x11\xa6\xd9", "got a Windows Media file"),
    "AAC": (b"\xff\xf1\x50\x80" * 10, "got an AAC file"),
    "no header": (b"\x10\xf0" * 24_000, "got data without a header"),
    "half a header": (b"RIFF\x10\0\0\0WAVEfmt ", "got a WAV file that ends in its header"),
    "a rate of 0": (_header(1, 1, 0, 48_000, 2, 16), "got a WAV file with a sample rate of 0 Hz"),
    "a rate of 2^32 - 1": (_header(1, 1, 2**32 - 1, 48_000, 2, 16), "expected"),
    "no channel": (_header(1, 0, 24_000, 48_000, 2, 16), "got a WAV file with .* 0 channels"),
    "65,535 channels": (_header(1, 65_535, 24_000, 48_000, 2, 16), "expected"),
    "0 bits": (_header(1, 1, 24_000, 48_000, 2, 0), "expected"),
    "65,535 bits": (_header(1, 1, 24_000, 48_000, 2, 65_535), "expected"),
    "an unknown coding": (_header(0x1234, 1, 24_000, 48_000, 2, 16), "got a WAV file of a coding that is not read"),
    "half a FLAC file": (b"fLaC\0\0\0\x22" + bytes(20), "got a FLAC file that is broken"),
    "half an OGG file": (b"OggS\0\x02" + bytes(40), "got an OGG file that is broken"),
    "a header only": (_file(np.zeros(0, dtype=np.float32), 24_000), "with sound, got one that holds none"),
    "a picture": (b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 99, "got a PNG picture$"),
    "a document": (b"PK\3\4" + bytes(26) + b"word/document.xml", "got a Word document .ZIP.$"),
}


@pytest.mark.parametrize(("file", "expected"), _BROKEN.values(), ids=_BROKEN)
async def test_a_file_that_cannot_be_read_is_named_for_people(file: bytes, expected: str) -> None:
    with pytest.raises(InvalidArgument, match=expected) as raised:
        await read_recording(file)
    assert_tells_nothing(raised.value.message)


async def test_a_refusal_says_which_kinds_are_read() -> None:
    with pytest.raises(
        InvalidArgument, match=r"expected a recording \(WAV, FLAC, OGG, MP3, M4A, MP4, .* or CAF\), got a PDF"
    ):
        await read_recording(b"%PDF-1.7\n" + bytes(range(256)))


def _with_silence(before_s: float, after_s: float, level: float = 0.0) -> bytes:
    rng = np.random.default_rng(1)
    ends = [rng.normal(0, 1, int(seconds * 8_000)) * level for seconds in (before_s, after_s)]
    sound = np.concatenate([ends[0], _tone(2.0, 8_000), ends[1]]).astype(np.float32)
    return by_libsndfile(sound, 8_000, "FLAC", "PCM_16")


@pytest.mark.parametrize("level", [0.0, 5e-4])
@pytest.mark.parametrize(("before_s", "after_s"), [(180.0, 0.0), (0.0, 180.0), (60.0, 60.0)])
async def test_minutes_of_silence_at_the_ends_are_cut(before_s: float, after_s: float, level: float) -> None:
    read = await read_recording(_with_silence(before_s, after_s, level))
    assert len(read) / 24_000 == pytest.approx(2.0 + (before_s > 0) + (after_s > 0), abs=0.11)


async def test_the_limit_counts_what_is_left_after_the_cut() -> None:
    with pytest.raises(TooLong, match=r"1 to 2\.5 s of audio, got more"):
        await read_recording(_with_silence(5.0, 5.0), max_s=2.5)
    with pytest.raises(InvalidArgument, match=r"got 4\.00 s without the silence at its ends"):
        await read_recording(_with_silence(5.0, 5.0), min_s=4.5)
    assert len(await read_recording(_with_silence(5.0, 5.0), max_s=4.5)) / 24_000 == pytest.approx(4.0, abs=0.11)


async def test_silence_stays_where_the_caller_wants_it() -> None:
    read = await read_recording(_with_silence(9.0, 9.0), kept_silence_s=30.0)
    assert len(read) == 20 * 24_000
    with pytest.raises(TooLong):
        await read_recording(_with_silence(29.0, 0.0), kept_silence_s=30.0)


async def test_minutes_of_silence_alone_are_refused_as_silence() -> None:
    file = by_libsndfile(np.zeros(8_000 * 200, dtype=np.float32), 8_000, "FLAC", "PCM_16")
    with pytest.raises(InvalidArgument, match="got silence: 30 s and more without a sound"):
        await read_recording(file)


async def test_all_files_of_a_request_share_a_budget_of_decoding() -> None:
    budget = DecodingBudget(10.0)
    await read_recording(_with_silence(5.0, 0.0), budget=budget)
    assert budget.left_s == pytest.approx(3.0)
    with pytest.raises(TooLong, match="got more than 600 s with their silence"):
        await read_recording(_with_silence(5.0, 0.0), budget=budget)


@pytest.mark.parametrize("offset", [0.1, -0.5])
async def test_a_constant_offset_is_removed(offset: float) -> None:
    read = await read_recording(_file(_tone(2.0, 24_000) + np.float32(offset), 24_000))
    assert np.abs(read - _tone(2.0, 24_000)).max() < 1e-4


async def test_a_constant_offset_alone_is_silence() -> None:
    with pytest.raises(InvalidArgument, match="got silence"):
        await read_recording(_file(np.full(48_000, 0.25, dtype=np.float32), 24_000))


async def test_a_constant_compressed_to_nothing_is_read_up_to_the_limit_only() -> None:
    hours = by_libsndfile(np.full(8_000 * 1_200, 0.25, dtype=np.float32), 8_000, "FLAC", "PCM_16")
    assert len(hours) < 50_000
    with pytest.raises(InvalidArgument, match="got more than 600 s with their silence"):
        await read_recording(hours)


@HOSTILE
@given(
    st.sampled_from(
        (
            b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0",
            b"fLaC",
            b"OggS",
            b"ID3\4\0",
            b"\xff\xfb\x90\x64",
            b"\xff\xf1\x50\x80",
            b"\0\0\0\x18ftypM4A \0\0\0\0",
            b"\x1aE\xdf\xa3\x9f",
            b"#!AMR\n",
            b"",
        )
    ),
    st.binary(max_size=300),
)
async def test_any_file_is_read_or_refused(head: bytes, tail: bytes) -> None:
    try:
        await read_recording(head + tail)
    except InvalidArgument as error:
        assert_tells_nothing(error.message)
