"""Repairs files whose headers are wrong in common ways, or too long, so that FFmpeg reads them to their end.

Sizes may be those of a stream whose end was not known (`chunks`), or the chunk `ds64` of an RF64 file may have none. An
MP3 file may begin with megabytes of pictures (ID3), behind which FFmpeg does not look for the sound. And an OGG file
may be several files in a row (a chain, such as a recorded radio stream), of which FFmpeg reads the first one correctly.
"""

from __future__ import annotations

import struct

from gateway.audio.chunks import AIFF, CAF, W64, WAV, with_true_sizes
from gateway.audio.wav_format import with_named_coding

_MAX_TAGS = 8
_AU_SIZE_AT, _UNKNOWN_SIZE = 8, b"\xff" * 4
"""Where an AU file says how many bytes of sound it has, and what stands there when the writer did not know."""

_OGG_HEADER_BYTES, _OGG_BEGIN = 27, 0x02
"""Bytes of a page before its table of sizes, and the flag of the first page of a stream."""
_MAX_LINKS = 100


def repaired(file: bytes) -> list[bytes]:
    """Return the audio files that FFmpeg is to read one after the other; mostly one, the file as it is."""
    if file.startswith((b"RIFF", b"RF64", b"BW64")) and file[8:12] == b"WAVE":
        return [repaired_wav(file)]
    if file.startswith(b"riff\x2e\x91\xcf\x11"):
        return [with_true_sizes(file, W64)]
    if file.startswith(b"FORM") and file[8:12] in (b"AIFF", b"AIFC"):
        return [repaired_aiff(file)]
    if file.startswith(b"caff"):
        return [with_true_sizes(file, CAF)]
    if file.startswith(b".snd") and file[_AU_SIZE_AT:].startswith(bytes(4)):
        return [file[:_AU_SIZE_AT] + _UNKNOWN_SIZE + file[_AU_SIZE_AT + 4 :]]
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
    """Return a WAV file that names its coding, with true sizes.

    An RF64 file whose chunk `ds64` has no true size of the sound becomes a plain WAV file: it is small enough.
    """
    if not file.startswith(b"RIFF"):
        has_size = file[12:16] == b"ds64" and len(file) >= 36
        if has_size and 0 < struct.unpack_from("<Q", file, 28)[0] < len(file):
            return with_named_coding(file)
        file = b"RIFF" + file[4:]
    return with_named_coding(with_true_sizes(file, WAV))


def repaired_aiff(file: bytes) -> bytes:
    """Return an AIFF file with true sizes. A number of frames that FFmpeg takes for a negative one becomes 0."""
    at = file.find(b"COMM", AIFF.first) + AIFF.header.size + 2
    if at >= AIFF.first and len(file) > at and file[at] & 0x80:
        file = file[:at] + bytes(4) + file[at + 4 :]
    return with_true_sizes(file, AIFF)
