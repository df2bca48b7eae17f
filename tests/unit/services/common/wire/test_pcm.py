import numpy as np
import pytest

from chroma.v1.audio_pb2 import (
    AUDIO_ENCODING_PCM_F32LE,
    AUDIO_ENCODING_PCM_S16LE,
    AUDIO_ENCODING_UNSPECIFIED,
)
from services.common.errors import InvalidArgument
from services.common.wire.pcm import check_pcm, decode_pcm, encode_pcm


def test_float_samples_travel_unchanged() -> None:
    samples = np.array([0.0, -1.5, 0.3, 1e-20], dtype=np.float32)
    assert np.array_equal(decode_pcm(encode_pcm(samples, AUDIO_ENCODING_PCM_F32LE), AUDIO_ENCODING_PCM_F32LE), samples)


def test_every_16_bit_sample_travels_unchanged() -> None:
    data = np.arange(-32768, 32768, dtype="<i2").tobytes()
    assert encode_pcm(decode_pcm(data, AUDIO_ENCODING_PCM_S16LE), AUDIO_ENCODING_PCM_S16LE) == data


def test_loud_samples_clip_at_full_scale_instead_of_wrapping() -> None:
    data = encode_pcm(np.array([2.0, -2.0], dtype=np.float32), AUDIO_ENCODING_PCM_S16LE)
    assert np.frombuffer(data, dtype="<i2").tolist() == [32767, -32768]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_sample_that_is_not_finite_is_refused_and_named(bad: float) -> None:
    data = np.array([0.0, bad], dtype="<f4").tobytes()
    for read in (decode_pcm, check_pcm):
        with pytest.raises(InvalidArgument, match="at sample 1"):
            read(data, AUDIO_ENCODING_PCM_F32LE)


def test_half_a_sample_is_refused() -> None:
    for read in (decode_pcm, check_pcm):
        with pytest.raises(InvalidArgument, match="whole samples of 2 bytes"):
            read(b"abc", AUDIO_ENCODING_PCM_S16LE)


@pytest.mark.parametrize("encoding", [AUDIO_ENCODING_UNSPECIFIED, 77])
def test_an_unknown_encoding_is_refused(encoding: int) -> None:
    for read in (decode_pcm, check_pcm):
        with pytest.raises(InvalidArgument, match="expected audio encoding"):
            read(b"", encoding)  # pyright: ignore[reportArgumentType]
