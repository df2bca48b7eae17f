from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from services.codec.model.mimi import Mimi
from services.codec.model.streams import StreamState
from services.common.errors import InvalidArgument
from services.common.wire.audio import FRAME_SAMPLES
from services.runtime.checkpoint.checkpoint import Checkpoint
from tests.support.golden_files import load_golden
from tests.support.random_mimi import GOLDEN, reference_mimi

TOLERANCE = 1e-5
CASES = ["basic_audio", "thinker_eos_early", "audio_eos_dropped", "audio_eos_partial", "text_only", "two_audios"]


def random_codes(frames: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2048, (frames, 8))


def decode_chunks(mimi: Mimi, state: StreamState, slot: int, codes: np.ndarray, sizes: list[int]) -> np.ndarray:
    """Decode in steps of the given sizes, the last of them repeated for what remains."""
    slots = torch.tensor([slot])
    pcm: list[np.ndarray] = []
    for size in itertools.chain(sizes, itertools.repeat(sizes[-1])):
        if not len(codes):
            return np.concatenate(pcm)
        pcm.append(mimi.decoder.step(torch.from_numpy(codes[:size])[None], slots, state)[0].numpy())
        codes = codes[size:]
    raise AssertionError


def reference_pcm(checkpoint: Checkpoint, codes: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        pcm = reference_mimi(checkpoint).decode(torch.from_numpy(codes.T)[None]).audio_values
    assert pcm is not None
    return pcm[0, 0].numpy()


def difference(found: np.ndarray, expected: np.ndarray) -> float:
    assert found.shape == expected.shape
    return float(np.abs(found - expected).max())


def test_whole_decode_equals_golden(mimi: Mimi, golden: dict[str, torch.Tensor]) -> None:
    pcm = mimi.decode(golden["codes"][0].T.numpy())
    assert difference(pcm, golden["pcm"].numpy()) < TOLERANCE


@pytest.mark.parametrize("case", CASES)
def test_decode_of_each_case_equals_golden(mimi: Mimi, case: str) -> None:
    tensors = load_golden(GOLDEN, case)
    pcm = mimi.decode(tensors["out.frames"][0].numpy())
    assert difference(pcm, tensors["out.pcm.0"].numpy()) < TOLERANCE


@settings(max_examples=30, deadline=None, derandomize=True)
@given(sizes=st.lists(st.integers(1, 5), min_size=1, max_size=12))
def test_any_chunking_equals_the_whole_decode(mimi: Mimi, golden: dict[str, torch.Tensor], sizes: list[int]) -> None:
    state = mimi.decoder.new_state(1, 5)
    pcm = decode_chunks(mimi, state, 0, golden["codes"][0].T.numpy(), sizes)
    assert difference(pcm, golden["pcm"].numpy()) < TOLERANCE


def test_first_sound_needs_one_frame_and_sees_no_later_one(mimi: Mimi) -> None:
    codes, other = random_codes(6, seed=1), random_codes(6, seed=2)
    other[:3] = codes[:3]
    one, two = mimi.decode(codes), mimi.decode(other)
    assert len(one) == 6 * FRAME_SAMPLES
    assert difference(one[: 3 * FRAME_SAMPLES], two[: 3 * FRAME_SAMPLES]) < TOLERANCE
    assert difference(one[3 * FRAME_SAMPLES : 3 * FRAME_SAMPLES + 64], two[3 * FRAME_SAMPLES :][:64]) > 1e-3


@pytest.mark.parametrize("sizes", [[1], [16], [3, 1, 7]])
def test_window_holds_beyond_125_frames(mimi: Mimi, checkpoint: Checkpoint, sizes: list[int]) -> None:
    codes = random_codes(300, seed=4)
    expected = reference_pcm(checkpoint, codes)
    pcm = decode_chunks(mimi, mimi.decoder.new_state(1, 16), 0, codes, sizes)
    assert difference(pcm, expected) < TOLERANCE


def test_other_dimensions_equal_the_reference(odd_checkpoint: Checkpoint) -> None:
    codes = random_codes(20, seed=5)
    expected = reference_pcm(odd_checkpoint, codes)
    odd = Mimi.load(odd_checkpoint)
    scale = float(np.abs(expected).max())
    for size in (1, 2, 5):
        pcm = decode_chunks(odd, odd.decoder.new_state(1, 5), 0, codes, [size])
        assert difference(pcm, expected) < TOLERANCE * max(scale, 1.0)


@pytest.mark.parametrize("seed", range(4))
def test_a_stream_gives_the_same_samples_beside_any_other_streams(mimi: Mimi, seed: int) -> None:
    """Streams join and leave at random steps, reuse slots, and step in random subsets by random frame counts."""
    rng = np.random.default_rng(seed)
    recordings = [random_codes(int(rng.integers(1, 40)), seed=100 * seed + number) for number in range(12)]
    state = mimi.decoder.new_state(4, 4)
    free, running, upcoming = [0, 1, 2, 3], {}, list(range(len(recordings)))
    heard: dict[int, list[np.ndarray]] = {number: [] for number in upcoming}
    done = dict.fromkeys(upcoming, 0)
    cut = {number: len(codes) if rng.random() < 0.7 else len(codes) // 2 for number, codes in enumerate(recordings)}
    while upcoming or running:
        while upcoming and free and rng.random() < 0.5:
            slot = free.pop(int(rng.integers(len(free))))
            state.reset(slot)
            running[upcoming.pop(0)] = slot
        chosen = [number for number in running if rng.random() < 0.7]
        rng.shuffle(chosen)
        frames = min([int(rng.integers(1, 5)), *(cut[number] - done[number] for number in chosen)])
        if chosen and frames:
            codes = np.stack([recordings[number][done[number] : done[number] + frames] for number in chosen])
            slots = torch.tensor([running[number] for number in chosen])
            pcm = mimi.decoder.step(torch.from_numpy(codes), slots, state).numpy()
            for number, row in zip(chosen, pcm, strict=True):
                heard[number].append(row)
                done[number] += frames
        free.extend([running.pop(number) for number in list(running) if done[number] == cut[number]])
    for number, codes in enumerate(recordings):
        if cut[number]:
            assert difference(np.concatenate(heard[number]), mimi.decode(codes[: cut[number]])) < TOLERANCE


def test_a_step_writes_into_the_memory_it_was_given_and_only_to_its_slots(mimi: Mimi) -> None:
    state = mimi.decoder.new_state(3, 2)
    tensors = [state.conv_rows, state.window.keys_values, state.window.positions]
    addresses = [tensor.data_ptr() for tensor in tensors]
    mimi.decoder.step(torch.from_numpy(random_codes(4, seed=6)).view(2, 2, 8), torch.tensor([2, 0]), state)
    assert [t.data_ptr() for t in (state.conv_rows, state.window.keys_values, state.window.positions)] == addresses
    assert state.window.positions.tolist() == [4, 0, 4]
    assert [bool(state.conv_rows[slot].any()) for slot in range(3)] == [True, False, True]
    assert [bool(state.window.keys_values[:, slot].any()) for slot in range(3)] == [True, False, True]


@pytest.mark.parametrize(
    ("codes", "said"),
    [
        (np.zeros((2, 7), dtype=np.int64), r"expected integers of shape \[T, 8\]"),
        (np.zeros(8, dtype=np.int64), r"shape \[T, 8\]"),
        (np.zeros((2, 8), dtype=np.float32), "float32"),
        (np.full((1, 8), -1), "found -1 in frame 0, codebook 0"),
        (np.array([[0] * 8, [0] * 5 + [2048, 0, 0]], dtype=np.uint16), "found 2048 in frame 1, codebook 5"),
    ],
)
def test_bad_frames_are_refused_with_what_was_expected(codes: np.ndarray, said: str, mimi: Mimi) -> None:
    with pytest.raises(InvalidArgument, match=said):
        mimi.decoder.check_codes(codes)


def test_more_frames_than_a_step_has_room_for_are_a_bug(mimi: Mimi) -> None:
    state = mimi.decoder.new_state(1, 2)
    with pytest.raises(AssertionError, match="at most 2"):
        mimi.decoder.step(torch.zeros(1, 3, 8, dtype=torch.int64), torch.tensor([0]), state)
