"""The sound of a call's client: its rate, its gaps, and its speed."""

from __future__ import annotations

import numpy as np
import pytest
from aiortc import MediaStreamTrack
from aiortc.mediastreams import MediaStreamError
from av import AudioFrame

from gateway.api.webrtc.microphone import pieces_of
from services.common.errors import ResourceExhausted


class _Track(MediaStreamTrack):
    """A track of frames of 20 ms in stereo, which begin at these numbers of samples."""

    kind = "audio"

    def __init__(self, *starts: int) -> None:
        super().__init__()
        self._starts = list(starts)

    async def recv(self) -> AudioFrame:
        if not self._starts:
            raise MediaStreamError
        frame = AudioFrame.from_ndarray(np.full((1, 1_920), 8_192, dtype=np.int16), format="s16", layout="stereo")
        frame.pts, frame.sample_rate = self._starts.pop(0), 48_000
        return frame


async def _heard(*starts: int) -> np.ndarray:
    data = b"".join([piece async for piece in pieces_of(_Track(*starts))])
    return np.frombuffer(data, dtype="<i2").astype(np.float32) / 32_768


async def test_stereo_at_48_khz_becomes_mono_at_24_khz_in_pieces_of_60_ms() -> None:
    pieces = [piece async for piece in pieces_of(_Track(*range(0, 960 * 50, 960)))]
    assert {len(piece) for piece in pieces} == {2_880}
    assert len(pieces) in (15, 16)
    samples = np.frombuffer(b"".join(pieces), dtype="<i2")
    assert samples[1_000:-1_000].mean() == pytest.approx(8_192, abs=20)


async def test_lost_packets_become_silence() -> None:
    samples = await _heard(*range(0, 9_600, 960), *range(19_200, 48_000, 960))
    assert len(samples) == pytest.approx(24_000, abs=2_880)
    assert np.abs(samples[6_000:9_000]).max() < 0.02
    assert samples[12_000:18_000].mean() == pytest.approx(0.25, abs=0.01)


async def test_a_long_break_and_a_clock_that_jumps_back_add_nothing() -> None:
    assert len(await _heard(*range(0, 9_600, 960), *range(480_000, 489_600, 960))) <= 9_600
    assert len(await _heard(*range(48_000, 57_600, 960), *range(0, 9_600, 960))) <= 9_600


async def test_a_client_that_sends_sound_faster_than_time_goes_is_stopped() -> None:
    with pytest.raises(ResourceExhausted):
        await _heard(*range(0, 480_000, 960))
