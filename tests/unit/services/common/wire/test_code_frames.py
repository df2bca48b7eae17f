import numpy as np
import pytest

from chroma.v1.audio_pb2 import CodeFrames
from services.common.errors import InvalidArgument
from services.common.wire import code_frames


def test_frames_travel_unchanged() -> None:
    codes = np.random.default_rng(0).integers(0, 2048, size=(5, 8)).astype(np.uint16)
    message = code_frames.to_message(codes, first_frame=3)
    assert np.array_equal(code_frames.from_message(message, next_frame=3), codes)


def test_a_gap_between_frames_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="expected first_frame 2, got 3"):
        code_frames.from_message(CodeFrames(first_frame=3, codes=[0] * 8), next_frame=2)


def test_a_broken_frame_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="multiple of 8 codes, got 7"):
        code_frames.from_message(CodeFrames(codes=[0] * 7), next_frame=0)


@pytest.mark.parametrize("code", [2048, 2050, 4_294_967_295])
def test_a_code_the_codec_does_not_know_is_refused_and_located(code: int) -> None:
    codes = [0] * 16
    codes[10] = code
    with pytest.raises(InvalidArgument, match=f"got {code} in codebook 2 of frame 5"):
        code_frames.from_message(CodeFrames(first_frame=4, codes=codes), next_frame=4)
