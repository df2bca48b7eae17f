"""The chunk `fmt ` of a WAV file: which coding its samples have, and what is wrong with it, for people."""

from __future__ import annotations

import struct

import numpy as np

_FORMAT = struct.Struct("<HHIIHH")
"""Coding, channels, rate, bytes a second, bytes of a sample of all channels, bits."""
_CHUNK_BYTES = 8
"""Bytes of a chunk's name and size."""

_INTEGERS, _FLOATS, _EXTENSIBLE = 0x0001, 0x0003, 0xFFFE
_GUID_AT, _GUID_BYTES = 24, 16
"""Where the chunk `fmt ` of the extensible form names its coding: the coding's number, and bytes that all share."""
_GUID_TAIL = bytes.fromhex("000000001000800000aa00389b71")
_EXTENSION_BYTES_AT, _EXTENSION_BYTES = 16, 22
"""Where the chunk says how long its extension is, and how long it must be."""
_LARGEST_FLOAT = 16.0
"""A recording of floating point numbers stays below. Small negative integers, read as such numbers, are far above."""

CODINGS_WITHOUT_ONE_MEANING = frozenset((0x0014, 0x0038, 0x0040))
"""FFmpeg takes the first and the last for G.726 with another order of bits than other programs write, and 0x38 for AMR,
which is NMS ADPCM elsewhere. It makes noise of them."""

_NAMES = {
    0x0014: "G.723 ADPCM",
    0x0017: "Dialogic ADPCM",
    0x0022: "TrueSpeech",
    0x0038: "NMS ADPCM",
    0x0040: "G.721 ADPCM",
    0x0041: "G.728",
    0x0042: "G.723.1",
    0x0083: "G.729",
}
"""Codings of old telephone systems that are not read."""


def with_named_coding(file: bytes) -> bytes:
    """Return a WAV file of the extensible form that does not name its coding in the right way as one of the plain form.

    Some devices leave the name out, fill it with zeros, or count no bytes for it. A file without a name has integers,
    unless its samples of 32 bits make sense as floating point numbers only. Other files are returned as they are.
    """
    at = file.find(b"fmt ", 12) + _CHUNK_BYTES
    if at < _CHUNK_BYTES or at + _FORMAT.size > len(file):
        return file
    coding, _, _, _, _, bits = _FORMAT.unpack_from(file, at)
    if coding != _EXTENSIBLE:
        return file
    (size,) = struct.unpack_from("<I", file, at - 4)
    guid = file[at + _GUID_AT : at + _GUID_AT + _GUID_BYTES] if size >= _GUID_AT + _GUID_BYTES else b""
    counted = file[at + _EXTENSION_BYTES_AT] >= _EXTENSION_BYTES if guid else False
    if any(guid[2:]) and (counted or guid[2:] != _GUID_TAIL):
        return file
    named = int.from_bytes(guid[:2], "little") or (_FLOATS if _holds_floats(file, bits) else _INTEGERS)
    return file[:at] + named.to_bytes(2, "little") + file[at + 2 :]


def _holds_floats(file: bytes, bits: int) -> bool:
    begin = file.find(b"data", 12) + _CHUNK_BYTES
    if bits != 32 or begin < _CHUNK_BYTES:
        return bits == 64
    samples = np.frombuffer(file[begin : begin + (len(file) - begin) // 4 * 4], dtype="<f4")
    return bool(np.all(np.abs(samples) < _LARGEST_FLOAT))  # a NaN is not


def wav_fault(file: bytes) -> str:
    """Return what is wrong with a WAV file that FFmpeg does not read, for people."""
    at = file.find(b"fmt ", 12)
    if at < 0 or at + _CHUNK_BYTES + _FORMAT.size > len(file):
        return "that ends in its header" if len(file) < 1_000 else "without the chunk `fmt `"
    coding, channels, rate_hz, _, _, bits = _FORMAT.unpack_from(file, at + _CHUNK_BYTES)
    if not rate_hz or not channels:
        return f"with a sample rate of {rate_hz} Hz and {channels} channels"
    if file.find(b"data", at) < 0:
        return "without the chunk `data`"
    if coding in (_INTEGERS, _FLOATS, _EXTENSIBLE):
        return "that is broken"
    name = f"{_NAMES[coding]}, " if coding in _NAMES else ""
    return f"of a coding that is not read ({name}{coding:#06x}, {bits} bits, {channels} channels, {rate_hz} Hz)"
