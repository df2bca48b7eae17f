"""AAC in ADTS: a stream whose frames come while the samples come."""

from __future__ import annotations

import io

import av
import numpy as np
import pytest

from gateway.audio.adts import AdtsEncoder
from gateway.audio.decode import decoded
from gateway.audio.write import whole_file

_TONE = (np.sin(np.arange(72_000) * 0.05) * 8_000).astype("<i2")


def _encoded(count: int, piece: int = 1_920) -> list[bytes]:
    encoder = AdtsEncoder()
    pieces = [encoder.push(_TONE[begin : min(begin + piece, count)].tobytes()) for begin in range(0, count, piece)]
    return [*pieces, encoder.finish()]


def test_the_sound_comes_back_after_the_delay_of_the_codec() -> None:
    rates, pieces = zip(*decoded(b"".join(_encoded(len(_TONE)))), strict=True)
    assert set(rates) == {24_000}
    sound = np.concatenate(pieces)[1_024:][: len(_TONE)]
    assert np.corrcoef(sound, _TONE)[0, 1] > 0.999
    assert float(np.std(sound) / np.std(_TONE / 2**15)) == pytest.approx(1, abs=0.02)


def test_every_frame_has_a_header_with_its_size() -> None:
    data, at, frames = b"".join(_encoded(24_000)), 0, 0
    while at < len(data):
        assert data[at : at + 2] == b"\xff\xf1"
        at += (data[at + 3] & 3) << 11 | data[at + 4] << 3 | data[at + 5] >> 5
        frames += 1
    assert at == len(data)
    assert frames == -(-24_000 // 1_024) + 1
    with av.open(io.BytesIO(data)) as opened:
        assert opened.format.name == "aac"
        context = opened.streams.audio[0].codec_context
        assert (context.sample_rate, context.layout.name) == (24_000, "mono")


@pytest.mark.parametrize("piece", [1, 100, 1_024, 5_000])
def test_any_chunking_gives_the_same_bytes(piece: int) -> None:
    assert b"".join(_encoded(5_000, piece)) == whole_file("aac", _TONE[:5_000].tobytes())


def test_no_sound_is_no_file() -> None:
    assert AdtsEncoder().finish() == b""
