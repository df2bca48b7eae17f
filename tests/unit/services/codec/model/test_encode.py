from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from services.codec.model.encode import EncodeStream
from services.codec.model.mimi import Mimi
from services.common.errors import InvalidArgument
from services.runtime.checkpoint.checkpoint import Checkpoint
from tests.support.golden_files import load_golden
from tests.support.random_mimi import GOLDEN, reference_mimi
from tests.unit.services.codec.model.test_decode import CASES

FRAMES_OF_SAMPLES = json.loads((GOLDEN / "mimi_streaming.json").read_text())["n_frames"]


def encode_chunks(mimi: Mimi, pcm: np.ndarray, sizes: list[int], step_frames: int) -> np.ndarray:
    """Codes [T, 8] of a stream fed in chunks of the given sizes, cycled, encoding as soon as a frame is whole."""
    stream = EncodeStream(mimi.encoder, step_frames)
    codes = [np.empty((0, 8), dtype=np.uint16)]
    turn = 0
    while len(pcm) or not stream.ended:
        size = sizes[turn % len(sizes)]
        turn += 1
        stream.add(pcm[:size])
        pcm = pcm[size:]
        stream.ended = not len(pcm)
        while stream.ready_samples:
            codes.append(stream.step())
    return np.concatenate(codes)


def noise(samples: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (0.2 * rng.standard_normal(samples) * np.abs(np.sin(np.arange(samples) / 3000))).astype(np.float32)


def reference_codes(checkpoint: Checkpoint, pcm: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        codes = reference_mimi(checkpoint).encode(torch.from_numpy(pcm)[None, None], num_quantizers=8).audio_codes
    assert codes is not None
    return codes[0].T.numpy()


def test_whole_encode_equals_golden(mimi: Mimi, golden: dict[str, torch.Tensor]) -> None:
    assert np.array_equal(mimi.encode(golden["enc_audio"].numpy()), golden["enc_codes"].T.numpy())


@pytest.mark.parametrize("case", CASES)
def test_prompt_codes_of_each_case_equal_golden(mimi: Mimi, case: str) -> None:
    tensors = load_golden(GOLDEN, case)
    pcm = tensors["in.input_values"][0, 0, : int(tensors["in.input_values_cutoffs"][0])].numpy()
    expected = tensors["out.prompt_audio_codes"][0].T.numpy()
    assert np.array_equal(mimi.encode(pcm), expected)
    assert np.array_equal(encode_chunks(mimi, pcm, [777, 5000], step_frames=2), expected)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(sizes=st.lists(st.integers(1, 9000), min_size=1, max_size=8), step_frames=st.integers(1, 6))
def test_any_chunking_equals_the_whole_encode(
    mimi: Mimi, golden: dict[str, torch.Tensor], sizes: list[int], step_frames: int
) -> None:
    pcm = golden["enc_audio"].numpy()[: 12 * 1920]
    sizes = [max(size, 200) for size in sizes]
    assert np.array_equal(encode_chunks(mimi, pcm, sizes, step_frames), golden["enc_codes"].T.numpy()[:12])


@pytest.mark.parametrize(("samples", "frames"), [(int(s), n) for s, n in FRAMES_OF_SAMPLES.items()] + [(1, 1)])
def test_a_partial_last_frame_is_padded_inside_each_convolution(
    mimi: Mimi, checkpoint: Checkpoint, samples: int, frames: int
) -> None:
    pcm = noise(samples, seed=samples)
    expected = reference_codes(checkpoint, pcm)
    assert expected.shape == (frames, 8)
    assert np.array_equal(mimi.encode(pcm), expected)
    assert np.array_equal(encode_chunks(mimi, pcm, [1000, 300], step_frames=1), expected)


def test_zeros_behind_the_waveform_would_change_the_last_frame(mimi: Mimi) -> None:
    pcm = noise(5000, seed=8)
    padded = np.concatenate((pcm, np.zeros(760, dtype=np.float32)))
    assert not np.array_equal(mimi.encode(pcm)[-1], mimi.encode(padded)[-1])


def test_window_holds_beyond_125_frames(mimi: Mimi, checkpoint: Checkpoint) -> None:
    pcm = noise(200 * 1920 - 700, seed=9)
    expected = reference_codes(checkpoint, pcm)
    assert np.array_equal(encode_chunks(mimi, pcm, [1920], step_frames=1), expected)
    assert np.array_equal(mimi.encode(pcm), expected)


def test_other_dimensions_equal_the_reference(odd_checkpoint: Checkpoint) -> None:
    pcm = noise(21 * 1920 + 1000, seed=10)
    expected = reference_codes(odd_checkpoint, pcm)
    odd = Mimi.load(odd_checkpoint)
    assert np.array_equal(encode_chunks(odd, pcm, [2500], step_frames=1), expected)
    assert np.array_equal(odd.encode(pcm), expected)


def test_empty_audio_has_no_frames(mimi: Mimi) -> None:
    assert mimi.encode(np.empty(0, dtype=np.float32)).shape == (0, 8)


@pytest.mark.parametrize(
    ("pcm", "said"),
    [
        (np.zeros((1, 10), dtype=np.float32), r"shape \[S\]"),
        (np.zeros(10, dtype=np.int16), "int16"),
        (np.array([0.0, np.nan], dtype=np.float32), "NaN"),
        (np.array([np.inf], dtype=np.float32), "infinity"),
    ],
)
def test_bad_audio_is_refused_with_what_was_expected(mimi: Mimi, pcm: np.ndarray, said: str) -> None:
    with pytest.raises(InvalidArgument, match=said):
        mimi.encode(pcm)
