"""Converts between 16-bit PCM and the 8-bit mu-law and A-law of telephones (ITU-T G.711)."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Law = Literal["mu", "a"]

RATE_HZ = 8_000

_MU_BIAS, _MU_CLIP = 33, 8_158
"""In units of 14-bit samples."""


def decode_g711(data: bytes, law: Law) -> bytes:
    """Return 16-bit little-endian PCM: two bytes for each byte of `data`."""
    return _DECODED[law][np.frombuffer(data, dtype=np.uint8)].tobytes()


def encode_g711(pcm: bytes, law: Law) -> bytes:
    """Return G.711 bytes: one for each 16-bit little-endian sample."""
    samples = np.frombuffer(pcm, dtype="<i2").astype(np.int32)
    return (_encode_mu(samples) if law == "mu" else _encode_a(samples)).astype(np.uint8).tobytes()


def _encode_mu(samples: NDArray[np.int32]) -> NDArray[np.int32]:
    magnitude = np.minimum(np.abs(samples >> 2), _MU_CLIP) + _MU_BIAS
    exponent = np.log2(magnitude).astype(np.int32) - 5
    mantissa = (magnitude >> (exponent + 1)) & 0x0F
    return ~(np.where(samples < 0, 0x80, 0) | exponent << 4 | mantissa) & 0xFF


def _encode_a(samples: NDArray[np.int32]) -> NDArray[np.int32]:
    # 12 bits without the sign. Negative values are taken as one's complements, so that -1 lies in the step below zero.
    magnitude = np.where(samples < 0, ~samples, samples) >> 4
    segment = np.maximum(np.log2(np.maximum(magnitude, 1)).astype(np.int32) - 3, 0)
    mantissa = (magnitude >> np.maximum(segment - 1, 0)) & 0x0F
    return (np.where(samples < 0, 0, 0x80) | segment << 4 | mantissa) ^ 0x55


def _decode_mu_table() -> NDArray[np.int16]:
    code = ~np.arange(256) & 0xFF
    magnitude = ((((code & 0x0F) << 1) + _MU_BIAS << ((code & 0x70) >> 4)) - _MU_BIAS) << 2
    return np.where(code & 0x80, -magnitude, magnitude).astype("<i2")


def _decode_a_table() -> NDArray[np.int16]:
    code = np.arange(256) ^ 0x55
    segment, mantissa = (code & 0x70) >> 4, code & 0x0F
    magnitude = np.where(segment == 0, (mantissa << 4) + 8, (mantissa << 4) + 0x108 << np.maximum(segment - 1, 0))
    return np.where(code & 0x80, magnitude, -magnitude).astype("<i2")


_DECODED: dict[Law, NDArray[np.int16]] = {"mu": _decode_mu_table(), "a": _decode_a_table()}
"""The sample of each of the 256 bytes, for both laws."""
