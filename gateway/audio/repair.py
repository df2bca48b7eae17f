"""Repairs files whose headers are wrong in common ways, or too long, so that FFmpeg reads them to their end.

A program that streams a WAV file does not know its length when it writes the header. It writes 0 or 0xFFFFFFFF as the
size of the `data` chunk, or no size in the chunk `ds64` of an RF64 file. And some programs forget the byte that pads a
chunk of odd size.

An MP3 file may begin with megabytes of pictures (ID3), behind which FFmpeg does not look for the sound. And an OGG file
may be several files in a row (a chain, such as a recorded radio stream), of which FFmpeg reads the first one correctly.
"""

from __future__ import annotations

import struct

_HEADER = struct.Struct("<4sI")
_FORMAT = struct.Struct("<HHIIHH")
"""The chunk `fmt `: coding, channels, rate, bytes a second, bytes of a sample of all channels, bits."""
_PCM_CODINGS = (0x0001, 0x0003, 0xFFFE)
"""Integers, floating point, and what a longer header says."""
_MAX_CHUNKS, _MAX_PADS, _MAX_TAGS = 1_000, 8, 8
"""Bounds of the walk over a hostile file. Each padding copies the file."""


_OGG_HEADER_BYTES, _OGG_BEGIN = 27, 0x02
"""Bytes of a page before its table of sizes, and the flag of the first page of a stream."""
_MAX_LINKS = 100


def repaired(file: bytes) -> list[bytes]:
    """Return the audio files that FFmpeg is to read one after the other; mostly one, the file as it is."""
    if file.startswith(b"RIFF"):
        return [repaired_wav(file)]
    if file.startswith((b"RF64", b"BW64")):
        return [repaired_rf64(file)]
    return links(file) if file.startswith(b"OggS") else [without_id3(file)]


def links(file: bytes) -> list[bytes]:
    """Return the files of which a chained OGG file consists; the last one has what follows the limit of links."""
    begins, at, is_head = [0], 0, True
    while len(begins) < _MAX_LINKS and file[at : at + 4] == b"OggS" and at + _OGG_HEADER_BYTES <= len(file):
        if not file[at + 5] & _OGG_BEGIN:
            is_head = False
        elif not is_head:
            begins.append(at)
            is_head = True
        table = at + _OGG_HEADER_BYTES
        at = table + file[at + 26]
        at += sum(file[table:at])
    return [file[begin:end] for begin, end in zip(begins, [*begins[1:], len(file)], strict=True)]


def without_id3(file: bytes) -> bytes:
    """Return a file without the ID3 tags at its beginning. A file without one is returned as it is."""
    at = 0
    for _ in range(_MAX_TAGS):
        size = _id3_bytes(file, at)
        if not size:
            break
        at += size
    return file[at:] if at else file


def _id3_bytes(file: bytes, at: int) -> int:
    """The size of the ID3 tag that begins here. 0: there is none."""
    if file[at : at + 3] != b"ID3" or len(file) < at + 10:
        return 0
    size = 0
    for byte in file[at + 6 : at + 10]:
        size = size << 7 | byte & 0x7F
    return 10 + size + (10 if file[at + 5] & 0x10 else 0)


def repaired_wav(file: bytes) -> bytes:
    """Return a WAV file with a true size of its `data` chunk and with padded chunks. Other files are returned as they
    are."""
    if len(file) < 12 or file[:4] != b"RIFF" or file[8:12] != b"WAVE":
        return file
    at, pads = 12, 0
    for _ in range(_MAX_CHUNKS):
        if at + _HEADER.size > len(file):
            break
        name, size = _HEADER.unpack_from(file, at)
        begin = at + _HEADER.size
        left = len(file) - begin
        if name == b"data":
            if size > left or (size == 0 and not _is_chunk(file, begin)):
                return file[:at] + _HEADER.pack(name, left) + file[begin:]
            break
        end = begin + size
        if size % 2 and pads < _MAX_PADS and _is_chunk(file, end):  # a padding byte, 0, begins no name
            pads += 1
            file = file[:end] + b"\0" + file[end:]
        at = end + size % 2
    return file


def repaired_rf64(file: bytes) -> bytes:
    """Return an RF64 file whose chunk `ds64` has no true size as a WAV file with one, for which it is small enough.

    Other files are returned as they are.
    """
    if file[12:16] == b"ds64" and len(file) >= 36:
        (size,) = struct.unpack_from("<Q", file, 28)
        if 0 < size < len(file):
            return file
    return repaired_wav(b"RIFF" + file[4:])


def wav_fault(file: bytes) -> str:
    """Return what is wrong with a WAV file that FFmpeg does not read, for people."""
    at = file.find(b"fmt ", 12)
    if at < 0 or at + _HEADER.size + _FORMAT.size > len(file):
        return "that ends in its header" if len(file) < 1_000 else "without the chunk `fmt `"
    coding, channels, rate_hz, _, _, bits = _FORMAT.unpack_from(file, at + _HEADER.size)
    if not rate_hz or not channels:
        return f"with a sample rate of {rate_hz} Hz and {channels} channels"
    if file.find(b"data", at) < 0:
        return "without the chunk `data`"
    if coding in _PCM_CODINGS:
        return "that is broken"
    return f"of a coding that is not read ({coding:#06x}, {bits} bits, {channels} channels, {rate_hz} Hz)"


def _is_chunk(file: bytes, at: int) -> bool:
    """Whether a chunk can begin here: a name of four printable characters, and a size that fits or is a stream's."""
    if at + _HEADER.size > len(file):
        return False
    name, size = _HEADER.unpack_from(file, at)
    fits = size <= len(file) - at - _HEADER.size or (name == b"data" and size == 0xFFFF_FFFF)
    return fits and all(0x20 <= byte < 0x7F for byte in name)
