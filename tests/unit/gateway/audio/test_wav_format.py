"""The coding of a WAV file is found where its header does not name it well; what is wrong is said for people."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.audio.decode import decoded
from gateway.audio.wav_format import wav_fault, with_named_coding
from services.common.errors import InvalidArgument
from services.common.wire.pcm import Samples
from tests.support.hostile import HOSTILE
from tests.support.recordings import by_libsndfile, voice_like

_SOUND = voice_like(0.5, 8_000)
_GUID_AT, _GUID_END = 44, 60
_TAIL = bytes.fromhex("000000001000800000aa00389b71")


def _samples(file: bytes) -> Samples:
    return np.concatenate([samples for _, samples in decoded(file)])


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
def test_a_coding_whose_name_is_zeros_is_found_from_the_samples(subtype: str) -> None:
    named = by_libsndfile(_SOUND, 8_000, "WAVEX", subtype)
    assert named[_GUID_AT + 2 : _GUID_END] == _TAIL
    unnamed = named[:_GUID_AT] + bytes(16) + named[_GUID_END:]
    assert np.array_equal(_samples(unnamed), _samples(named))
    numbered = named[: _GUID_AT + 2] + bytes(14) + named[_GUID_END:]
    assert np.array_equal(_samples(numbered), _samples(named))


def test_an_extension_that_is_not_counted_or_not_there_is_no_obstacle() -> None:
    named = by_libsndfile(_SOUND, 8_000, "WAVEX", "PCM_16")
    uncounted = named[:36] + bytes(2) + named[38:]
    assert np.array_equal(_samples(uncounted), _samples(named))
    short = named[:16] + struct.pack("<I", 16) + named[20:36] + named[_GUID_END:]
    assert np.array_equal(_samples(short), _samples(named))


def test_a_coding_with_a_good_or_a_strange_name_is_left_as_it_is() -> None:
    named = by_libsndfile(_SOUND, 8_000, "WAVEX", "PCM_16")
    for file in (named, named[:_GUID_AT] + b"\1\0of another maker"[:16] + named[_GUID_END:], _PLAIN):
        assert with_named_coding(file) is file


_PLAIN = by_libsndfile(_SOUND, 8_000, "WAV", "PCM_16")


@pytest.mark.parametrize(
    ("file", "fault"),
    [
        (_PLAIN[:30], "that ends in its header"),
        (_PLAIN.replace(b"fmt ", b"fnt "), "without the chunk `fmt `"),
        (_PLAIN.replace(b"data", b"LIST"), "without the chunk `data`"),
        (_PLAIN.replace(struct.pack("<II", 8_000, 16_000), bytes(8)), "with a sample rate of 0 Hz and 1 channels"),
        (_PLAIN, "that is broken"),
        (_PLAIN.replace(b"\1\0\1\0", b"\x34\x12\1\0", 1), "of a coding that is not read (0x1234, 16 bits"),
        (_PLAIN.replace(b"\1\0\1\0", b"\x83\0\1\0", 1), "of a coding that is not read (G.729, 0x0083, 16 bits"),
    ],
)
def test_the_fault_of_a_wav_file_is_named(file: bytes, fault: str) -> None:
    assert wav_fault(file).startswith(fault)


_NOISE = {"NMS_ADPCM_16": "NMS ADPCM, 0x0038", "G721_32": "G.721 ADPCM, 0x0040"}


@pytest.mark.parametrize(("subtype", "name"), _NOISE.items())
def test_a_coding_that_would_be_decoded_to_noise_is_refused_by_its_name(subtype: str, name: str) -> None:
    with pytest.raises(InvalidArgument) as raised:
        _samples(by_libsndfile(_SOUND, 8_000, "WAV", subtype))
    assert f"a WAV file of a coding that is not read ({name}" in raised.value.message


@HOSTILE
@given(st.integers(0, 70), st.binary(max_size=60))
def test_any_header_is_read(kept: int, tail: bytes) -> None:
    file = by_libsndfile(_SOUND[:8], 8_000, "WAVEX", "PCM_32")[:kept] + tail
    assert len(with_named_coding(file)) == len(file)
    assert wav_fault(file)
