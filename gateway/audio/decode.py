"""Decodes an audio file of any common kind to mono samples, piece by piece, with FFmpeg's libraries (PyAV).

A file is hostile until it is read. FFmpeg may use only the demuxers and decoders that are named here, opens no file and
no address, and has bounds on what it allocates, on the samples of a frame and on the processor time of a file.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Generator
from typing import cast

import av
import av.error
import numpy as np
from av import _core as av_core
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer

from gateway.audio.file_kind import READ_KINDS, is_utf16_text, kind_of
from gateway.audio.repair import repaired
from gateway.audio.wav_format import CODINGS_WITHOUT_ONE_MEANING, wav_fault
from services.common.errors import InvalidArgument
from services.common.wire.pcm import Samples

MIN_RATE_HZ, MAX_RATE_HZ = 8_000, 192_000
"""Sample rates of files."""
MAX_CHANNELS = 8

MAX_CPU_S = 10.0
"""Processor time that one file may take. Ten minutes of MP3 take about one second."""

_MAX_ALLOCATION_BYTES = 32 * 1024 * 1024
"""Most bytes of one allocation of FFmpeg: more than the largest file. A header of a few bytes can ask for gigabytes."""
_MAX_FRAME_SAMPLES = 1 << 18
"""Most samples of a channel in one frame. FLAC, whose frames are the longest of the usual ones, has up to 65,535."""
_MAX_STREAMS = 16
"""A film of an iPhone has up to ten, most of them of metadata."""

_DEMUXERS = "aac,aiff,amr,amrnb,amrwb,asf,au,avi,caf,flac,matroska,webm,mov,mp4,m4a,3gp,3g2,mj2,mp3,mpegts,ogg,w64,wav"
_DECODER_NAMES = (
    "aac,aac_latm,ac3,eac3,alac,flac,mp1,mp1float,mp2,mp2float,mp3,mp3float,opus,vorbis,speex,amrnb,amrwb,gsm,gsm_ms,"
    "wmav1,wmav2,wmapro,wmavoice,wmalossless,g722,g726,g726le,adpcm_ima_wav,adpcm_ima_qt,adpcm_ms,"
    "pcm_alaw,pcm_mulaw,pcm_u8,pcm_s8,pcm_s16le,pcm_s16be,pcm_s24le,pcm_s24be,pcm_s32le,pcm_s32be,pcm_s64le,pcm_s64be,"
    "pcm_f32le,pcm_f32be,pcm_f64le,pcm_f64be"
)
_DECODERS = frozenset(_DECODER_NAMES.split(","))
_OPTIONS = {
    "format_whitelist": _DEMUXERS,
    "codec_whitelist": _DECODER_NAMES,
    "protocol_whitelist": "none",
    "max_streams": str(_MAX_STREAMS),
    "max_samples": str(_MAX_FRAME_SAMPLES),
    "probesize": "1000000",
}

_WITH_NUMBERED_CODINGS = ("wav", "w64", "avi")
"""Containers in which a coding has a number of Microsoft's registry."""
_MAX_PLANES = 7
"""PyAV reads beyond the end of the planes of a frame of 8, and crashes."""

_SCALES = {"u8": 128.0, "s16": 2.0**15, "s32": 2.0**31, "s64": 2.0**63}
"""Full scale of the integer sample formats."""

LIBRARY = ctypes.CDLL(av_core.__file__)
"""FFmpeg's libraries, for what PyAV does not offer."""
LIBRARY.av_max_alloc(ctypes.c_size_t(_MAX_ALLOCATION_BYTES))


def decoded(file: bytes) -> Generator[tuple[int, Samples]]:
    """Yield the sound of a file in pieces of less than a few seconds: the sample rate in Hz, and mono samples [S].

    Several channels become their mean. Packets that cannot be decoded are left out, as players do, unless they are the
    larger part. Raises InvalidArgument, for people: the file is not audio, is broken, has another rate or more channels
    than allowed, has NaN or infinite samples, or takes too long.
    """
    if is_utf16_text(file) or file.startswith(b"RIFX"):  # FFmpeg takes both for sound, and makes noise of them
        raise _refusal(file, "")
    deadline_s = time.thread_time() + MAX_CPU_S
    has_sound = False
    for link in repaired(file):
        source = _Source(link, deadline_s)
        try:
            with cast(InputContainer, av.open(source, options=_OPTIONS, metadata_errors="replace")) as container:
                for piece in _sound(container, source, file):
                    yield piece
                    has_sound = True
        except (av.error.FFmpegError, OSError, ValueError, LookupError, MemoryError):
            source.check()
            if not has_sound:
                raise _refusal(file, "that is broken") from None


def _sound(container: InputContainer, source: _Source, file: bytes) -> Generator[tuple[int, Samples]]:
    stream = next((it for it in container.streams.audio if it.codec_context is not None), None)
    if stream is None:
        raise _refusal(file, "without sound")
    name = stream.codec_context.codec.name
    if name not in _DECODERS or _may_be_noise(container, stream):
        raise _refusal(file, f"whose sound has a coding that is not read ({name})")
    good = bad = 0
    for frame in _frames(container, stream):
        source.check()
        if frame is None:
            bad += 1
            continue
        good += 1
        if not MIN_RATE_HZ <= frame.sample_rate <= MAX_RATE_HZ:
            raise InvalidArgument(
                f"expected a sample rate from {MIN_RATE_HZ} to {MAX_RATE_HZ} Hz, got {frame.sample_rate} Hz"
            )
        yield frame.sample_rate, _mono(frame)
    source.check()
    if bad > good:
        raise _refusal(file, "most of which is broken")


def _may_be_noise(container: InputContainer, stream: AudioStream) -> bool:
    """Whether FFmpeg reads another coding than other programs write under this number."""
    if container.format.name not in _WITH_NUMBERED_CODINGS:
        return False
    return int.from_bytes(stream.codec_context.codec_tag.encode("latin-1"), "little") in CODINGS_WITHOUT_ONE_MEANING


def _frames(container: InputContainer, stream: AudioStream) -> Generator[AudioFrame | None]:
    """Yield the frames of a stream. None: a packet could not be decoded."""
    stream.codec_context.options = {"max_samples": str(_MAX_FRAME_SAMPLES)}
    stream.codec_context.thread_count = 1
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except av.error.FFmpegError:  # the file ends in the middle of a packet
            return
        if packet is None:
            return
        try:
            frames = packet.decode()
        except av.error.FFmpegError:
            yield None
            continue
        yield from cast(list[AudioFrame], frames)


def _mono(frame: AudioFrame) -> Samples:
    """The mean of the channels of a frame, as float32 [S] of full scale 1."""
    channels = frame.layout.nb_channels
    if not 1 <= channels <= MAX_CHANNELS:
        raise InvalidArgument(f"expected 1 to {MAX_CHANNELS} channels, got {channels}")
    if frame.format.is_planar and channels > _MAX_PLANES:
        (frame,) = av.AudioResampler("flt", frame.layout, frame.sample_rate).resample(frame)
    data = frame.to_ndarray()
    if not frame.format.is_planar:
        data = data.reshape(-1, channels).T
    kind = frame.format.name.removesuffix("p")
    with np.errstate(over="ignore", invalid="ignore"):
        samples = data.astype(np.float32) if kind != "u8" else data.astype(np.float32) - 128
        if kind in _SCALES:
            samples /= _SCALES[kind]
        mono = samples[0] if channels == 1 else samples.mean(axis=0, dtype=np.float32)
    if not np.isfinite(mono).all():
        raise InvalidArgument("expected finite samples, got NaN or infinite ones in the file")
    return mono


def _refusal(file: bytes, why: str) -> InvalidArgument:
    """The error for a file. `why` is said of a kind of file that can be read."""
    kind, can_be_read = kind_of(file)
    if kind == "a WAV file":
        why = wav_fault(file)
    return InvalidArgument(f"expected a recording ({READ_KINDS}), got {f'{kind} {why}' if can_be_read else kind}")


class _Source:
    """The bytes of a file as FFmpeg reads them. After the processor time is spent, the file ends."""

    def __init__(self, file: bytes, deadline_s: float) -> None:
        """`deadline_s` is on the clock of the processor time of this thread."""
        self._file = file
        self._at = 0
        self._deadline_s = deadline_s

    @property
    def _is_spent(self) -> bool:
        return time.thread_time() > self._deadline_s

    def check(self) -> None:
        """Raise InvalidArgument when the processor time is spent."""
        if self._is_spent:
            raise InvalidArgument(
                f"expected a recording that is decoded within {MAX_CPU_S:g} s, got one that takes longer"
            )

    def read(self, size: int) -> bytes:
        """Return the next bytes; none at the end."""
        piece = b"" if self._is_spent else self._file[self._at : self._at + size]
        self._at += len(piece)
        return piece

    def seek(self, offset: int, whence: int) -> int:
        """Move within the file; a place outside it becomes its nearer end. Return the place."""
        begin = (0, self._at, len(self._file))[whence]
        self._at = min(max(begin + offset, 0), len(self._file))
        return self._at

    def tell(self) -> int:
        """Return the place in the file."""
        return self._at
