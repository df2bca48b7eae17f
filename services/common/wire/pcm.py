"""Conversion of PCM samples between bytes of messages and float32 arrays."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from chroma.v1.audio_pb2 import (
    AUDIO_ENCODING_PCM_F32LE,
    AUDIO_ENCODING_PCM_S16LE,
    AudioEncoding,
)
from services.common.errors import InvalidArgument

Samples = NDArray[np.float32]
"""Mono samples [S], full scale 1.0."""

_S16_FULL_SCALE = 32_768.0

_SAMPLE_BYTES = {AUDIO_ENCODING_PCM_S16LE: 2, AUDIO_ENCODING_PCM_F32LE: 4}


def check_encoding(encoding: AudioEncoding.ValueType) -> None:
    """Raises InvalidArgument unless `encoding` is one this project reads and writes."""
    if encoding not in _SAMPLE_BYTES:
        known = " or ".join(AudioEncoding.Name(known) for known in _SAMPLE_BYTES)
        raise InvalidArgument(f"expected audio encoding {known}, got {_name(encoding)}")


def sample_bytes(encoding: AudioEncoding.ValueType) -> int:
    """Return the number of bytes of one sample."""
    return _SAMPLE_BYTES[encoding]


def sample_count(data: bytes, encoding: AudioEncoding.ValueType) -> int:
    """Return the number of samples in `data`."""
    return len(data) // _SAMPLE_BYTES[encoding]


def check_whole(data: bytes, encoding: AudioEncoding.ValueType) -> None:
    """Raises InvalidArgument if `data` ends within a sample."""
    if len(data) % _SAMPLE_BYTES[encoding]:
        wanted = f"whole samples of {_SAMPLE_BYTES[encoding]} bytes ({_name(encoding)})"
        raise InvalidArgument(f"expected {wanted}, got {len(data)} bytes of audio")


def decode_pcm(data: bytes, encoding: AudioEncoding.ValueType) -> Samples:
    """Samples [S] of `data`.

    Raises:
        InvalidArgument: an unknown encoding, a broken sample at the end, NaN or infinite samples.
    """
    check_encoding(encoding)
    check_whole(data, encoding)
    samples = pcm_samples(data, encoding)
    if encoding == AUDIO_ENCODING_PCM_F32LE and not np.isfinite(samples).all():
        bad = int(np.flatnonzero(~np.isfinite(samples))[0])
        raise InvalidArgument(f"expected finite samples, got {samples[bad]} at sample {bad} of the message")
    return samples


def check_pcm(data: bytes, encoding: AudioEncoding.ValueType) -> None:
    """Raises InvalidArgument where `decode_pcm` does. 16-bit samples are not looked at: each is a number."""
    if encoding == AUDIO_ENCODING_PCM_S16LE:
        check_whole(data, encoding)
    else:
        decode_pcm(data, encoding)


def pcm_samples(data: bytes, encoding: AudioEncoding.ValueType) -> Samples:
    """Samples [S] of whole samples in a known encoding, which may be NaN or infinite."""
    if encoding == AUDIO_ENCODING_PCM_S16LE:
        return np.frombuffer(data, dtype="<i2").astype(np.float32) / np.float32(_S16_FULL_SCALE)
    return np.frombuffer(data, dtype="<f4").astype(np.float32, copy=False)


def encode_pcm(samples: Samples, encoding: AudioEncoding.ValueType) -> bytes:
    """Bytes of samples [S]; 16-bit output is rounded and clipped at full scale."""
    check_encoding(encoding)
    if encoding == AUDIO_ENCODING_PCM_S16LE:
        scaled = np.rint(samples * np.float32(_S16_FULL_SCALE))
        return np.clip(scaled, -_S16_FULL_SCALE, _S16_FULL_SCALE - 1).astype("<i2").tobytes()
    return samples.astype("<f4", copy=False).tobytes()


def _name(encoding: AudioEncoding.ValueType) -> str:
    try:
        return AudioEncoding.Name(encoding)
    except ValueError:
        return f"number {encoding}"
