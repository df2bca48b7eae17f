"""Files of chunks with false sizes are read to their end; other files are not touched."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.audio.chunks import AIFF, CAF, W64, WAV, Layout, with_true_sizes
from gateway.audio.decode import decoded
from services.common.wire.pcm import Samples
from tests.support.hostile import HOSTILE
from tests.support.recordings import by_libsndfile, voice_like

_LAYOUTS = {"WAV": WAV, "AIFF": AIFF, "CAF": CAF, "W64": W64}
_SOUND = voice_like(0.5, 8_000)
_FILES = {container: by_libsndfile(_SOUND, 8_000, container, "FLOAT") for container in _LAYOUTS}


def _samples(file: bytes) -> Samples:
    return np.concatenate([samples for _, samples in decoded(file)])


def _with_size(file: bytes, layout: Layout, at: int, size: int) -> bytes:
    """The file with this number as the size of the chunk at `at`, or of the whole file at 0."""
    name, _ = layout.header.unpack_from(file, at)
    return file[:at] + layout.header.pack(name, size) + file[at + layout.header.size :]


_FALSE_SIZES = [
    *((container, size) for container in ("WAV", "AIFF") for size in (0, 100_000, 2**31 - 1, 2**32 - 1)),
    ("AIFF", 8),
    *(("W64", size) for size in (0, 24, 100_000, 2**32 - 1, 2**63 - 1, 2**64 - 1)),
    *(("CAF", size) for size in (0, 4, 100_000, 2**32 - 1, 2**63 - 1, -1, -(2**63))),
]


@pytest.mark.parametrize(("container", "size"), _FALSE_SIZES)
def test_a_false_size_of_the_sound_is_mended(container: str, size: int) -> None:
    file, layout = _FILES[container], _LAYOUTS[container]
    assert np.array_equal(_samples(_with_size(file, layout, file.index(layout.sound), size)), _SOUND)


@pytest.mark.parametrize(
    ("container", "size"),
    [("AIFF", size) for size in (0, 24, 2**32 - 1)] + [("W64", size) for size in (0, 24, 2**64 - 1)],
)
def test_a_false_size_of_the_file_is_mended(container: str, size: int) -> None:
    file = _with_size(_FILES[container], _LAYOUTS[container], 0, size)
    assert np.array_equal(_samples(file), _SOUND)


@pytest.mark.parametrize("size", [None, 0, 2**32 - 1], ids=["a true size", "no size", "the size of a stream"])
@pytest.mark.parametrize("between", [b"", struct.pack("<4sI4s", b"LIST", 4, b"INFO")], ids=["at once", "later"])
@pytest.mark.parametrize("count", [1, 3])
def test_empty_chunks_before_the_sound_are_left_out(count: int, between: bytes, size: int | None) -> None:
    file = _FILES["WAV"]
    at = file.index(b"data")
    if size is not None:
        file = _with_size(file, WAV, at, size)
    assert np.array_equal(_samples(file[:at] + (b"data" + bytes(4) + between) * count + file[at:]), _SOUND)


def test_an_empty_chunk_before_the_sound_of_an_aiff_file_is_left_out() -> None:
    file = _FILES["AIFF"]
    at = file.index(b"SSND")
    file = file[:at] + struct.pack(">4sI", b"SSND", 8) + bytes(8) + file[at:]
    assert np.array_equal(_samples(file), _SOUND)


@pytest.mark.parametrize("container", _LAYOUTS)
def test_a_file_without_mistakes_is_not_changed(container: str) -> None:
    file = _FILES[container]
    assert with_true_sizes(file, _LAYOUTS[container]) is file


def test_a_file_with_an_empty_chunk_only_is_not_changed() -> None:
    head = _FILES["WAV"][: _FILES["WAV"].index(b"data")]
    for tail in (b"data" + bytes(4), b"data" + bytes(4) + struct.pack("<4sI", b"LIST", 0)):
        assert with_true_sizes(head + tail, WAV) == head + tail


def test_a_file_of_many_broken_chunks_is_walked_in_bounded_work() -> None:
    file = _FILES["WAV"][:12] + struct.pack("<4sI3s", b"LIST", 3, b"odd") * 100_000
    assert len(with_true_sizes(file, WAV)) <= len(file) + 8


@HOSTILE
@given(st.sampled_from(list(_LAYOUTS)), st.integers(0, 200), st.binary(max_size=100))
def test_any_bytes_are_walked(container: str, kept: int, tail: bytes) -> None:
    with_true_sizes(_FILES[container][:kept] + tail, _LAYOUTS[container])
