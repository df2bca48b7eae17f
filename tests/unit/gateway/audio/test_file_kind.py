"""The kind of a file is named for people by its first bytes."""

from __future__ import annotations

import io
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.audio.file_kind import kind_of
from tests.support.hostile import HOSTILE
from tests.support.recordings import by_ffmpeg, by_libsndfile, voice_like


def _zip(*names: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            archive.writestr(name, "x" * 3_000)
    return file.getvalue()


_OTHERS = {
    "a PNG picture": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
    "a JPEG picture": b"\xff\xd8\xff\xe0\0\x10JFIF",
    "a WebP picture": b"RIFF\x10\0\0\0WEBPVP8 ",
    "a HEIC picture": b"\0\0\0\x18ftypheic\0\0\0\0",
    "a PDF document": b"%PDF-1.7\n",
    "a Word document (ZIP)": _zip("[Content_Types].xml", "_rels/.rels", "word/document.xml"),
    "an Excel document (ZIP)": _zip("[Content_Types].xml", "xl/workbook.xml"),
    "a ZIP archive": _zip("song.mp3"),
    "a gzip archive": b"\x1f\x8b\x08\0\0\0\0\0",
    "an old Word, Excel or PowerPoint document": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
    "a MIDI file, which holds notes and no sound": b"MThd\0\0\0\6\0\1",
    "an HTML page": b"\xef\xbb\xbf\n<!DOCTYPE html><html>",
    "an XML text": b"<?xml version='1.0'?>",
    "a JSON text": b'{"error": "not found"}',
    "a playlist, which holds no sound": b"#EXTM3U\nsong.mp3\n",
    "a text": "Grüße aus Köln, als Text".encode(),
    "a tar archive": b"name".ljust(257, b"\0") + b"ustar",
    "nothing but zero bytes": bytes(5_000),
    "an empty file": b"",
    "data without a header, such as bare samples": b"\x10\xf0\0\x81" * 900,
}


@pytest.mark.parametrize(("name", "file"), _OTHERS.items())
def test_what_is_no_recording_is_named(name: str, file: bytes) -> None:
    assert kind_of(file) == (name, False)


def test_recordings_are_named() -> None:
    sound = voice_like(0.2, 16_000)
    by_name = {
        "a WAV file": by_libsndfile(sound, 16_000, "WAV", "PCM_16"),
        "a WAV file (RF64)": by_libsndfile(sound, 16_000, "RF64", "PCM_16"),
        "a W64 file": by_libsndfile(sound, 16_000, "W64", "PCM_16"),
        "an AIFF file": by_libsndfile(sound, 16_000, "AIFF", "PCM_16"),
        "a FLAC file": by_libsndfile(sound, 16_000, "FLAC", "PCM_16"),
        "an OGG file": by_libsndfile(sound, 16_000, "OGG", "VORBIS"),
        "an MP3 file": by_libsndfile(sound, 16_000, "MP3", "MPEG_LAYER_III"),
        "an M4A file": by_ffmpeg(sound, 16_000, "ipod", "aac"),
        "an MP4 file": by_ffmpeg(sound, 16_000, "mp4", "aac"),
        "a 3GP file": by_ffmpeg(sound, 16_000, "3gp", "aac"),
        "a MOV file": by_ffmpeg(sound, 16_000, "mov", "aac"),
        "an AAC file": by_ffmpeg(sound, 16_000, "adts", "aac"),
        "a WebM or Matroska file": by_ffmpeg(sound, 16_000, "webm", "libopus"),
        "a CAF file": by_ffmpeg(sound, 16_000, "caf", "pcm_s16be"),
    }
    for name, file in by_name.items():
        assert kind_of(file) == (name, True)


@HOSTILE
@given(st.binary(max_size=300))
def test_any_bytes_have_a_name(data: bytes) -> None:
    name, _ = kind_of(data)
    assert name.isprintable()
