"""The kind of an uploaded file, by its first bytes, in words for people."""

from __future__ import annotations

import re

READ_KINDS = "WAV, FLAC, OGG, MP3, M4A, MP4, 3GP, MOV, WebM, AAC, AMR, WMA, AIFF or CAF"
"""The kinds of file that are read, for messages."""

_AUDIO_KINDS: tuple[tuple[int, bytes, str], ...] = (
    (0, b"fLaC", "a FLAC file"),
    (0, b"OggS", "an OGG file"),
    (0, b"\x1aE\xdf\xa3", "a WebM or Matroska file"),
    (0, b"0&\xb2u\x8ef\xcf\x11", "a Windows Media file (WMA)"),
    (0, b"#!AMR", "an AMR file"),
    (0, b"caff", "a CAF file"),
    (0, b".snd", "an AU file"),
    (0, b"riff\x2e\x91\xcf\x11", "a W64 file"),
    (0, b"RF64", "a WAV file (RF64)"),
    (0, b"BW64", "a WAV file (BW64)"),
    (8, b"WAVE", "a WAV file"),
    (8, b"AVI ", "an AVI video"),
    (8, b"AIFF", "an AIFF file"),
    (8, b"AIFC", "an AIFF file"),
    (0, b"ID3", "an MP3 file"),
    (4, b"ftypM4A", "an M4A file"),
    (4, b"ftypM4B", "an M4A file"),
    (4, b"ftypqt", "a MOV file"),
    (4, b"ftyp3g", "a 3GP file"),
    (4, b"moov", "a MOV file"),
    (4, b"mdat", "a MOV file"),
    (4, b"wide", "a MOV file"),
)
"""Where the first bytes of a kind that is read stand, what they are, and its name."""

_OTHER_KINDS: tuple[tuple[int, bytes, str], ...] = (
    (0, b"RIFX", "a WAV file of big-endian numbers (RIFX)"),
    (8, b"WEBP", "a WebP picture"),
    (0, b"\x89PNG", "a PNG picture"),
    (0, b"\xff\xd8\xff", "a JPEG picture"),
    (0, b"GIF8", "a GIF picture"),
    (0, b"BM", "a BMP picture"),
    (0, b"II*\0", "a TIFF picture"),
    (0, b"MM\0*", "a TIFF picture"),
    (0, b"\0\0\1\0", "an icon"),
    *((4, b"ftyp" + brand, "a HEIC picture") for brand in (b"heic", b"heix", b"hevc", b"mif1", b"msf1")),
    *((4, b"ftyp" + brand, "an AVIF picture") for brand in (b"avif", b"avis")),
    (0, b"%PDF", "a PDF document"),
    (0, b"{\\rtf", "an RTF document"),
    (0, b"%!PS", "a PostScript document"),
    (0, b"\xd0\xcf\x11\xe0", "an old Word, Excel or PowerPoint document"),
    (0, b"\x1f\x8b", "a gzip archive"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (0, b"Rar!", "a RAR archive"),
    (0, b"BZh", "a bzip2 archive"),
    (0, b"\xfd7zXZ", "an xz archive"),
    (0, b"\x28\xb5\x2f\xfd", "a Zstandard archive"),
    (257, b"ustar", "a tar archive"),
    (0, b"\x7fELF", "a program"),
    (0, b"MZ", "a Windows program"),
    (0, b"\xca\xfe\xba\xbe", "a program"),
    (0, b"\xcf\xfa\xed\xfe", "a program"),
    (0, b"MThd", "a MIDI file, which holds notes and no sound"),
    (8, b"RMID", "a MIDI file, which holds notes and no sound"),
    (0, b"FLV\1", "a Flash video"),
    (0, b"\0\0\1\xba", "an MPEG video"),
    (0, b"SQLite format 3", "an SQLite database"),
    (0, b"wOF", "a font"),
    (0, b"OTTO", "a font"),
    (0, b"MAC ", "a Monkey's Audio file (APE)"),
    (0, b"wvpk", "a WavPack file"),
    (0, b"MPCK", "a Musepack file"),
    (0, b"DSD ", "a DSD file"),
    (0, b".RMF", "a RealMedia file"),
    (0, b".ra\xfd", "a RealAudio file"),
    (0, b"TTA1", "a True Audio file"),
    (0, b"NIST_1A", "a NIST SPHERE file"),
    (0, b"Creative Voice File", "a VOC file"),
    (0, b"\x0b\x77", "an AC-3 file"),
)
"""The same of kinds that are not read."""

_ZIPPED = (
    (b"word/", "a Word document"),
    (b"xl/", "an Excel document"),
    (b"ppt/", "a PowerPoint document"),
    (b"application/epub", "an EPUB book"),
    (b"application/vnd.oasis", "an OpenDocument file"),
    (b"META-INF/", "a Java archive"),
)
_HEAD_BYTES = 2_048
"""The part of a file that tells its kind."""

_MPEG_AUDIO = re.compile(rb"\xff[\xe2-\xe5\xf2-\xf5\xfa-\xfd][\x10-\xef]")
_ADTS = re.compile(rb"\xff[\xf0\xf1\xf8\xf9]")
_TEXT = re.compile(rb"[\t\n\r\x20-\x7e\x80-\xff]+")


def kind_of(file: bytes) -> tuple[str, bool]:
    """Return what a file is, with its article, such as "a PNG picture", and whether files of this kind are read."""
    head = file[:_HEAD_BYTES]
    for at, mark, name in _OTHER_KINDS:
        if head.startswith(mark, at):
            return name, False
    for at, mark, name in _AUDIO_KINDS:
        if head.startswith(mark, at):
            return name, True
    if head[4:8] == b"ftyp":
        return "an MP4 file", True
    if _ADTS.match(head):
        return "an AAC file", True
    if _MPEG_AUDIO.match(head):
        return "an MP3 file", True
    return _unreadable_kind(file), False


def _unreadable_kind(file: bytes) -> str:
    head = file[:_HEAD_BYTES]
    if not any(head) and not any(file):
        return "nothing but zero bytes" if file else "an empty file"
    if head[:2] == b"PK":
        inside = next((name for mark, name in _ZIPPED if mark in head or mark in file[-_HEAD_BYTES:]), None)
        return f"{inside} (ZIP)" if inside else "a ZIP archive"
    return _text_kind(head) or "data without a header, such as bare samples"


def is_utf16_text(file: bytes) -> bool:
    """Whether a file is a text in UTF-16, whose mark FFmpeg takes for the beginning of a frame of MPEG audio."""
    if not file.startswith(b"\xff\xfe"):
        return False
    head = file[: min(_HEAD_BYTES, len(file) // 2 * 2)]
    text = head.decode("utf-16", errors="replace")
    return "".join(text.split()).rstrip("\ufffd").isprintable() and "\ufffd" not in text[:-1]


def _text_kind(head: bytes) -> str | None:
    """The kind of a text. None: it is no text."""
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "a text"
    try:
        head.decode()
    except UnicodeDecodeError as error:
        if error.start < len(head) - 4:  # the last character may be cut
            return None
    if not _TEXT.fullmatch(head):
        return None
    begin = head.removeprefix(b"\xef\xbb\xbf").lstrip()[:200].lower()
    if begin.startswith((b"<!doctype html", b"<html")):
        return "an HTML page"
    if begin.startswith((b"<?xml", b"<svg")):
        return "an XML text"
    if begin.startswith(b"#extm3u"):
        return "a playlist, which holds no sound"
    if begin.startswith((b"{", b"[")):
        return "a JSON text"
    return "a text"
