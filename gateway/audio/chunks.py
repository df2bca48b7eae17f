"""Repairs the sizes in files that consist of chunks: WAV, W64, AIFF and CAF.

A program that streams a file does not know its length when it writes the header. It writes 0, or all bits set, as the
size of the chunk with the sound. Some programs write an empty chunk of that name before the real one. And some forget
the byte that pads a chunk of odd size.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

_MAX_CHUNKS, _MAX_PADS = 1_000, 8
"""Bounds of the walk over a hostile file. Each padding copies the file."""


@dataclass(frozen=True)
class Layout:
    """How a kind of file lays out its chunks."""

    header: struct.Struct
    """The name and the size of a chunk."""
    first: int
    """Where the first chunk begins."""
    sound: bytes
    """The name of the chunk that holds the sound."""
    sound_head_bytes: int = 0
    """Bytes of that chunk before its first sample."""
    align: int = 2
    """Chunks begin at multiples of so many bytes."""
    size_counts_header: bool = False
    """Whether a size counts the header of its chunk."""
    reads_file_size: bool = False
    """Whether FFmpeg reads no further than the size of the whole file in the first header."""

    def pack(self, name: bytes, size: int) -> bytes:
        """Return the header of a chunk with `size` bytes behind the header."""
        return self.header.pack(name, size + self.header.size * self.size_counts_header)

    def unpack(self, file: bytes, at: int) -> tuple[bytes, int]:
        """Return the name of the chunk that begins here, and how many bytes follow its header, as the header says."""
        name, size = self.header.unpack_from(file, at)
        return name, size - self.header.size * self.size_counts_header

    def is_chunk(self, file: bytes, at: int) -> bool:
        """Whether a chunk can begin here: a name of printable characters, and a size that fits or is a stream's."""
        if at + self.header.size > len(file):
            return False
        name, size = self.unpack(file, at)
        fits = 0 <= size <= len(file) - at - self.header.size or name == self.sound
        return fits and all(0x20 <= byte < 0x7F for byte in name[:4])


WAV = Layout(struct.Struct("<4sI"), 12, b"data")
AIFF = Layout(struct.Struct(">4sI"), 12, b"SSND", sound_head_bytes=8, reads_file_size=True)
CAF = Layout(struct.Struct(">4sq"), 8, b"data", sound_head_bytes=4, align=1)
W64 = Layout(
    struct.Struct("<16sQ"),
    40,
    b"data\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a",
    align=8,
    size_counts_header=True,
    reads_file_size=True,
)


def with_true_sizes(file: bytes, layout: Layout) -> bytes:
    """Return a file of chunks with a true size of its sound, with padded chunks, and without empty chunks of sound
    before the real one. A file without these mistakes, or without a chunk of sound, is returned as it is."""
    at, pads = layout.first, 0
    empty: list[tuple[int, int]] = []
    for _ in range(_MAX_CHUNKS):
        if at + layout.header.size > len(file):
            break
        name, size = layout.unpack(file, at)
        end = at + layout.header.size + size
        if name == layout.sound:
            if not (0 <= size <= layout.sound_head_bytes and layout.is_chunk(file, end)):
                return _with_sound_of_true_size(file, layout, at, empty)
            empty.append((at, end))
        if size < 0:
            break
        if size % 2 and layout.align == 2 and pads < _MAX_PADS and layout.is_chunk(file, end):
            pads += 1  # a padding byte, 0, begins no name
            file = file[:end] + b"\0" + file[end:]
        at = end + -size % layout.align
    return file


def _with_sound_of_true_size(file: bytes, layout: Layout, at: int, empty: list[tuple[int, int]]) -> bytes:
    """Repair a file whose sound is in the chunk at `at`. `empty`: where the chunks to leave out begin and end."""
    _, size = layout.unpack(file, at)
    begin = at + layout.header.size
    left = len(file) - begin
    if size > left or size <= layout.sound_head_bytes < left:
        size = left
        file = file[:at] + layout.pack(layout.sound, left) + file[begin:]
    for first, last in reversed(empty):
        file = file[:first] + file[last:]
        begin -= last - first
    if layout.reads_file_size:
        name, file_size = layout.unpack(file, 0)
        true_size = len(file) - layout.header.size
        if not begin + size - layout.header.size <= file_size <= true_size:
            file = layout.pack(name, true_size) + file[layout.header.size :]
    return file
