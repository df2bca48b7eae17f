"""Files with common mistakes in their headers are read to their end; other files are not touched."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from gateway.audio.decode import decoded
from gateway.audio.repair import links, repaired, repaired_wav
from tests.support.hostile import HOSTILE
from tests.support.recordings import by_libsndfile

_SAMPLES = (np.sin(np.arange(4_000) / 5) * 20_000).astype("<i2")
_SOUND = (_SAMPLES / 2**15).astype(np.float32)


def _chunk(name: bytes, data: bytes, size: int | None = None, *, pad: bool = True) -> bytes:
    return struct.pack("<4sI", name, len(data) if size is None else size) + data + b"\0" * (pad and len(data) % 2)


def _wav(*chunks: bytes) -> bytes:
    body = b"WAVE" + b"".join(chunks)
    return struct.pack("<4sI", b"RIFF", len(body)) + body


_FORMAT = _chunk(b"fmt ", struct.pack("<HHIIHH", 1, 1, 16_000, 32_000, 2, 16))
_PCM = _SAMPLES.tobytes()
_GOOD = _wav(_FORMAT, _chunk(b"LIST", b"odd", pad=True), _chunk(b"data", _PCM))

_FILES = {
    "a file without mistakes": _GOOD,
    "a length of 0": _wav(_FORMAT, _chunk(b"data", _PCM, 0)),
    "a length of 0xFFFFFFFF": _wav(_FORMAT, _chunk(b"data", _PCM, 0xFFFF_FFFF)),
    "a length beyond the file": _wav(_FORMAT, _chunk(b"data", _PCM, 50_000)),
    "an odd chunk without its padding": _wav(_FORMAT, _chunk(b"LIST", b"odd", pad=False), _chunk(b"data", _PCM)),
    "both": _wav(_FORMAT, _chunk(b"LIST", b"odd", pad=False), _chunk(b"data", _PCM, 0)),
}


@pytest.mark.parametrize("file", _FILES.values(), ids=_FILES)
def test_the_whole_sound_is_read(file: bytes) -> None:
    samples, rate_hz = soundfile.read(io.BytesIO(repaired_wav(file)), dtype="int16")
    assert rate_hz == 16_000
    assert np.array_equal(samples, _SAMPLES)


def _rf64(size: int, data_size: int = 0xFFFF_FFFF) -> bytes:
    wav = _wav(_chunk(b"ds64", struct.pack("<QQQI", 0, size, 0, 0)), _FORMAT, _chunk(b"data", _PCM, data_size))
    return b"RF64\xff\xff\xff\xff" + wav[8:]


_RF64 = {
    "no size": _rf64(0),
    "no size in `ds64` only": _rf64(0, len(_PCM)),
    "0xFF in all bytes": _rf64(2**64 - 1),
    "no `ds64`": b"RF64\xff\xff\xff\xff" + _wav(_FORMAT, _chunk(b"data", _PCM, 0xFFFF_FFFF))[8:],
}


@pytest.mark.parametrize("file", _RF64.values(), ids=_RF64)
def test_an_rf64_file_without_a_true_length_is_read_to_its_end(file: bytes) -> None:
    pieces = list(decoded(file))
    assert {rate_hz for rate_hz, _ in pieces} == {16_000}
    samples = np.concatenate([piece for _, piece in pieces])
    assert np.array_equal(samples, _SOUND)


def test_a_file_without_mistakes_is_not_changed() -> None:
    rf64 = _rf64(len(_PCM))
    for file in (rf64, _GOOD, _wav(_FORMAT, _chunk(b"data", b""), _chunk(b"LIST", b"even"))):
        assert repaired_wav(file) is file


@pytest.mark.parametrize("size", [0, 2**31 - 1, 2**32 - 1])
def test_an_au_file_is_read_to_its_end_whatever_length_it_names(size: int) -> None:
    file = by_libsndfile(_SOUND, 16_000, "AU", "PCM_16")
    pieces = [samples for _, samples in decoded(file[:8] + struct.pack(">I", size) + file[12:])]
    assert np.array_equal(np.concatenate(pieces), _SOUND)


@pytest.mark.parametrize("frames", [0, 5, 2**31 - 1, 2**32 - 1])
@pytest.mark.parametrize("subtype", ["PCM_16", "ULAW"])
def test_an_aiff_file_is_read_to_its_end_however_many_frames_it_names(subtype: str, frames: int) -> None:
    file = by_libsndfile(_SOUND, 16_000, "AIFF", subtype)
    at = file.index(b"COMM") + 10
    assert sum(len(samples) for _, samples in decoded(file[:at] + struct.pack(">I", frames) + file[at + 4 :])) == 4_000


def _tag(size: int, *, footer: bool = False) -> bytes:
    sizes = bytes((size >> shift) & 0x7F for shift in (21, 14, 7, 0))
    return b"ID3\4\0" + (b"\x10" if footer else b"\0") + sizes + bytes(size + (10 if footer else 0))


@pytest.mark.parametrize("tags", [_tag(3), _tag(3_000_000), _tag(200, footer=True), _tag(5) + _tag(6)])
def test_a_file_is_read_from_behind_its_tags(tags: bytes) -> None:
    assert repaired(tags + b"\xff\xfb sound") == [b"\xff\xfb sound"]


@pytest.mark.parametrize("file", [b"", b"ID3", b"\xff\xfb\x90\x64 sound", b"fLaC"])
def test_other_files_are_not_changed(file: bytes) -> None:
    (only,) = repaired(file)
    assert only is file


def _page(data: bytes, *, begins: bool = False) -> bytes:
    return b"OggS\0" + (b"\2" if begins else b"\0") + bytes(20) + bytes((1, len(data))) + data


_HEAD, _BODY = _page(b"head", begins=True), _page(b"OggS") + _page(b"more")


def test_a_chain_of_ogg_files_is_taken_apart() -> None:
    assert links(_HEAD + _BODY) == [_HEAD + _BODY]
    assert links((_HEAD + _HEAD + _BODY) * 3) == [_HEAD + _HEAD + _BODY] * 3
    assert links(_HEAD + _BODY + b"garbage" + _HEAD) == [_HEAD + _BODY + b"garbage" + _HEAD]
    assert len(links((_HEAD + _BODY) * 5_000)) == 100


@HOSTILE
@given(st.binary(max_size=100), st.sampled_from((b"", b"RIFF\0\0\0\0WAVE", _GOOD[:60], _GOOD[:20])))
def test_any_bytes_are_walked(tail: bytes, head: bytes) -> None:
    assert len(repaired_wav(head + tail)) >= len(head + tail)
    assert b"".join(links(b"OggS" + head + tail)) == b"OggS" + head + tail
