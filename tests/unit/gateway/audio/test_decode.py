"""Decodes the files that phones, browsers and programs write, as they are; bounds what a hostile one can take."""

from __future__ import annotations

import ctypes
import io
import struct
import threading

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.audio import decode
from gateway.audio.decode import decoded
from services.common.errors import InvalidArgument
from services.common.wire.pcm import Samples
from tests.support.hostile import HOSTILE, assert_tells_nothing
from tests.support.recordings import by_ffmpeg, by_libsndfile, voice_like

_LENGTH_S = 1.0


def _sound(file: bytes) -> tuple[int, Samples]:
    """The rate and the samples of a file of one rate."""
    pieces = list(decoded(file))
    assert len({rate_hz for rate_hz, _ in pieces}) == 1
    return pieces[0][0], np.concatenate([samples for _, samples in pieces])


def _assert_is_the_voice(file: bytes, rate_hz: int, *, within_s: float = 0.07, likeness: float = 0.93) -> None:
    """The file holds the sweep, shifted by the delay of its codec at most, at its level."""
    got_hz, got = _sound(file)
    assert got_hz == rate_hz
    assert abs(len(got) / rate_hz - _LENGTH_S) < 2 * within_s
    sent = voice_like(_LENGTH_S, rate_hz)
    size = 2 * len(sent)
    product = np.fft.irfft(np.fft.rfft(got, size) * np.conj(np.fft.rfft(sent, size)), size)
    furthest = int(within_s * rate_hz)
    lag = max(range(-furthest, furthest), key=lambda lag: product[lag])
    part, original = got[max(lag, 0) :], sent[max(-lag, 0) :]
    count = min(len(part), len(original))
    part, original = part[:count], original[:count]
    assert np.corrcoef(part, original)[0, 1] > likeness
    assert float(np.std(part) / np.std(original)) == pytest.approx(1, abs=0.2)


_FROM_DEVICES = {
    "an iPhone's voice memo": ("ipod", "aac", 44_100),
    "a lossless voice memo": ("ipod", "alac", 44_100),
    "an iPhone's film": ("mov", "aac", 44_100),
    "an old film": ("mov", "pcm_s16be", 44_100),
    "an older film": ("mov", "adpcm_ima_qt", 44_100),
    "Safari's recorder": ("mp4", "aac", 48_000),
    "Safari's other recorder": ("mp4", "libopus", 48_000),
    "Chrome's recorder": ("webm", "libopus", 48_000),
    "Firefox's recorder": ("ogg", "libopus", 48_000),
    "Android's recorder": ("3gp", "aac", 16_000),
    "an old phone": ("3gp", "libopencore_amrnb", 8_000),
    "an old phone's memo": ("amr", "libopencore_amrnb", 8_000),
    "a stream of AAC": ("adts", "aac", 16_000),
    "a transport stream": ("mpegts", "aac", 44_100),
    "a camera": ("avi", "pcm_s16le", 44_100),
    "a Mac": ("caf", "pcm_s16be", 44_100),
    "MP3": ("mp3", "libmp3lame", 44_100),
    "MP3 in WAV": ("wav", "libmp3lame", 44_100),
    "MPEG layer II": ("mp2", "mp2", 44_100),
    "IMA ADPCM": ("wav", "adpcm_ima_wav", 44_100),
    "Microsoft's ADPCM": ("wav", "adpcm_ms", 44_100),
    "G.726": ("wav", "adpcm_g726", 8_000),
}


@pytest.mark.parametrize(("container", "codec", "rate_hz"), _FROM_DEVICES.values(), ids=_FROM_DEVICES)
def test_what_devices_record_is_decoded(container: str, codec: str, rate_hz: int) -> None:
    _assert_is_the_voice(by_ffmpeg(voice_like(_LENGTH_S, rate_hz), rate_hz, container, codec), rate_hz)


def test_mp4_in_fragments_is_decoded() -> None:
    options = {"movflags": "frag_keyframe+empty_moov"}
    _assert_is_the_voice(by_ffmpeg(voice_like(_LENGTH_S, 48_000), 48_000, "mp4", "aac", options), 48_000)


def test_webm_without_an_end_is_decoded() -> None:
    live = by_ffmpeg(voice_like(_LENGTH_S, 48_000), 48_000, "webm", "libopus", {"live": "1"})
    _assert_is_the_voice(live, 48_000)
    _, half = _sound(live[: len(live) // 2])
    assert 0.3 < len(half) / 48_000 < 0.7


_BY_PROGRAMS = [
    ("AU", "G721_32", 8_000, 1),
    *(("WAV", subtype, 24_000, 1) for subtype in ("PCM_U8", "ULAW", "ALAW", "IMA_ADPCM", "MS_ADPCM", "GSM610")),
    ("AIFF", "PCM_24", 44_100, 2),
    ("AU", "ALAW", 8_000, 1),
    ("FLAC", "PCM_16", 192_000, 8),
    ("OGG", "VORBIS", 44_100, 2),
    ("OGG", "OPUS", 24_000, 8),
    ("MP3", "MPEG_LAYER_III", 8_000, 1),
    ("MP3", "MPEG_LAYER_III", 44_100, 2),
    ("WAVEX", "PCM_24", 96_000, 6),
]


@pytest.mark.parametrize(("container", "subtype", "rate_hz", "channels"), _BY_PROGRAMS)
def test_what_programs_write_is_decoded(container: str, subtype: str, rate_hz: int, channels: int) -> None:
    file = by_libsndfile(voice_like(_LENGTH_S, rate_hz, channels), rate_hz, container, subtype)
    _assert_is_the_voice(file, 48_000 if subtype == "OPUS" else rate_hz)


_EXACT = [
    *(("WAV", subtype) for subtype in ("PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE")),
    *(("WAVEX", subtype) for subtype in ("PCM_16", "PCM_24", "FLOAT")),
    *((container, "PCM_16") for container in ("RF64", "W64", "AIFF", "AU", "CAF", "FLAC")),
]


@pytest.mark.parametrize(("container", "subtype"), _EXACT)
def test_files_without_loss_are_decoded_bit_for_bit(container: str, subtype: str) -> None:
    rng = np.random.default_rng(3)
    sent = (rng.integers(-(2**15), 2**15, 12_000) / 2**15).astype(np.float32)
    rate_hz, got = _sound(by_libsndfile(sent, 24_000, container, subtype))
    assert rate_hz == 24_000
    assert np.array_equal(got, sent)


def test_bw64_is_decoded() -> None:
    file = by_libsndfile(voice_like(_LENGTH_S, 24_000), 24_000, "RF64", "PCM_16")
    _assert_is_the_voice(file.replace(b"RF64", b"BW64", 1), 24_000)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("rate_hz", [8_000, 22_050, 48_000])
def test_an_mp3_of_variable_bitrate_is_read_to_its_end_without_its_information(rate_hz: int, channels: int) -> None:
    rng = np.random.default_rng(1)
    sound = np.zeros((3 * rate_hz, channels), dtype=np.float32)
    sound[rate_hz : 2 * rate_hz] = rng.uniform(-0.5, 0.5, (rate_hz, channels))  # noise between silence and silence
    whole = by_libsndfile(sound, rate_hz, "MP3", "MPEG_LAYER_III", bitrate_mode="VARIABLE", compression_level=0.5)
    begin = whole.index(b"\xff", 10 if whole.startswith(b"ID3") else 0)
    bare = whole[begin + 4 :]
    bare = bare[bare.index(whole[begin : begin + 2]) :]  # without the first frame, which holds the information
    assert b"Xing" not in bare
    assert abs(len(_sound(bare)[1]) / rate_hz - 3) < 0.2


def test_an_mp3_with_megabytes_of_pictures_is_decoded() -> None:
    picture = b"APIC" + struct.pack(">I", 5_000_000) + bytes(2) + b"\0image/png\0\3\0\x89PNG" + bytes(4_999_982)
    size = len(picture)
    tag = b"ID3\3\0\0" + bytes((size >> shift) & 0x7F for shift in (21, 14, 7, 0)) + picture
    sound = by_ffmpeg(voice_like(_LENGTH_S, 44_100), 44_100, "mp3", "libmp3lame", {"id3v2_version": "0"})
    _assert_is_the_voice(tag + sound, 44_100)


@pytest.mark.parametrize("garbage", [b"garbage" * 1_000, bytes(5_000), b"LIST\x10\0\0\0INFO"])
def test_garbage_after_the_sound_is_left_out(garbage: bytes) -> None:
    wav = by_libsndfile(voice_like(_LENGTH_S, 24_000), 24_000, "WAV", "PCM_16")
    assert len(_sound(wav + garbage)[1]) == 24_000
    _assert_is_the_voice(by_ffmpeg(voice_like(_LENGTH_S, 48_000), 48_000, "mp4", "aac") + garbage, 48_000)


@pytest.mark.parametrize(("container", "subtype"), [("WAV", "PCM_16"), ("FLAC", "PCM_16"), ("MP3", "MPEG_LAYER_III")])
def test_a_truncated_file_is_decoded_up_to_its_end(container: str, subtype: str) -> None:
    file = by_libsndfile(voice_like(_LENGTH_S, 24_000), 24_000, container, subtype)
    assert 0.3 < len(_sound(file[: len(file) // 2])[1]) / 24_000 < 0.8


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_chained_ogg_files_are_decoded_one_after_the_other(subtype: str) -> None:
    chain = [by_libsndfile(voice_like(0.5, rate_hz), rate_hz, "OGG", subtype) for rate_hz in (24_000, 48_000)]
    seconds = [len(samples) / rate_hz for rate_hz, samples in decoded(b"".join(chain))]
    assert sum(seconds) == pytest.approx(1, abs=0.05)
    assert sum(len(samples) / rate_hz for rate_hz, samples in decoded(chain[0] + chain[1][:60])) < 0.55


def _film() -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as output:
        stream = output.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        for _ in range(3):
            for packet in stream.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")):
                output.mux(packet)
        for packet in stream.encode(None):
            output.mux(packet)
    return file.getvalue()


def _refusal_of(file: bytes) -> str:
    with pytest.raises(InvalidArgument) as raised:
        list(decoded(file))
    assert_tells_nothing(raised.value.message)
    return raised.value.message


def test_a_film_without_sound_is_refused_as_such() -> None:
    assert _refusal_of(_film()).endswith("got an MP4 file without sound")


def test_a_wav_file_of_big_endian_numbers_is_refused_by_its_name() -> None:
    assert _refusal_of(b"RIFX" + by_libsndfile(voice_like(_LENGTH_S, 8_000), 8_000, "WAV", "PCM_16")[4:]).endswith(
        "got a WAV file of big-endian numbers (RIFX)"
    )


@pytest.mark.parametrize("text", ["Grüße aus Köln.\r\n", "こんにちは、世界。\n", "h"])
def test_a_text_in_utf_16_is_no_sound(text: str) -> None:
    assert _refusal_of((text * 90).encode("utf-16")).endswith("got a text")


@pytest.mark.parametrize(
    "text", ["#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n", "ffconcat version 1.0\nfile '/etc/passwd'\n"]
)
def test_a_playlist_opens_no_other_file(text: str) -> None:
    assert ", got a" in _refusal_of(text.encode())


def test_one_allocation_of_the_library_is_bounded() -> None:
    allocate = decode.LIBRARY.av_malloc
    allocate.restype = ctypes.c_void_p
    assert allocate(ctypes.c_size_t(64 * 1024 * 1024)) is None


def test_a_frame_of_too_many_samples_is_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    file = by_libsndfile(voice_like(_LENGTH_S, 24_000), 24_000, "FLAC", "PCM_16")
    assert max(len(samples) for _, samples in decoded(file)) > 1_000
    monkeypatch.setattr(decode, "_MAX_FRAME_SAMPLES", 1_000)
    assert "most of which is broken" in _refusal_of(file)


def test_a_file_that_takes_too_much_processor_time_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode, "MAX_CPU_S", 0.0)
    for file in (_film(), by_libsndfile(voice_like(_LENGTH_S, 24_000), 24_000, "WAV", "PCM_16")):
        assert "decoded within 0 s, got one that takes longer" in _refusal_of(file)


def test_the_other_threads_run_while_a_file_is_decoded() -> None:
    file = by_ffmpeg(voice_like(5.0, 44_100), 44_100, "ipod", "aac")
    lengths: list[int] = []
    threads = [threading.Thread(target=lambda: lengths.append(len(_sound(file)[1]))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(lengths) == 3
    assert len(set(lengths)) == 1


_SEEDS = tuple(
    by_ffmpeg(voice_like(0.2, rate_hz), rate_hz, container, codec)
    for container, codec, rate_hz in (("ipod", "aac", 44_100), ("webm", "libopus", 48_000), ("adts", "aac", 16_000))
)


@HOSTILE
@given(st.sampled_from(_SEEDS), st.lists(st.tuples(st.integers(0, 2_000), st.binary(max_size=8)), max_size=4))
def test_any_damaged_file_is_decoded_or_refused(file: bytes, damages: list[tuple[int, bytes]]) -> None:
    for at, damage in damages:
        file = file[:at] + damage + file[at + len(damage) :]
    try:
        for rate_hz, samples in decoded(file):
            assert 8_000 <= rate_hz <= 192_000
            assert np.isfinite(samples).all()
    except InvalidArgument as error:
        assert_tells_nothing(error.message)
