"""The named inputs of a step lie in one block of memory for each dtype."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from services.runtime.graphs.staging import Field, StagingBuffer, new_blocks

FIELDS = {
    "slots": Field((4,), padding=9),
    "codes": Field((4, 2)),
    "noise": Field((4, 2), torch.float32),
    "hidden": Field((2, 3), torch.bfloat16, padding=None),
}


def test_filled_rows_come_first_and_padding_fills_the_rest() -> None:
    inputs = StagingBuffer.new(FIELDS, "cpu")
    inputs.fill(slots=[5, 6], codes=np.arange(4).reshape(2, 2), noise=np.full((2, 2), 0.5))
    inputs.send()
    assert inputs.device["slots"].tolist() == [5, 6, 9, 9]
    assert inputs.device["codes"].tolist() == [[0, 1], [2, 3], [0, 0], [0, 0]]
    assert inputs.device["noise"].tolist() == [[0.5, 0.5], [0.5, 0.5], [0, 0], [0, 0]]


def test_an_unnamed_input_is_all_padding() -> None:
    inputs = StagingBuffer.new(FIELDS, "cpu")
    inputs.fill(slots=[1, 2, 3, 4])
    inputs.fill()
    assert inputs.device["slots"].tolist() == [9] * 4


def test_an_input_without_padding_keeps_what_the_host_wrote() -> None:
    inputs = StagingBuffer.new(FIELDS, "cpu")
    inputs.host("hidden")[1] = torch.tensor([1.0, 2.0, 3.0])
    inputs.fill()
    assert inputs.device["hidden"].tolist() == [[0, 0, 0], [1, 2, 3]]


def test_an_input_that_the_step_does_not_have_is_refused() -> None:
    with pytest.raises(AssertionError, match="expected"):
        StagingBuffer.new(FIELDS, "cpu").fill(slot=[1])


def test_steps_of_several_shapes_share_one_memory() -> None:
    small, large = {"slots": Field((2,))}, {"slots": Field((3,)), "noise": Field((3,), torch.float32)}
    blocks = new_blocks([small, large], "cpu")
    assert {dtype: len(block.host) for dtype, block in blocks.items()} == {torch.int64: 3, torch.float32: 3}
    StagingBuffer(large, blocks).fill(slots=[1, 2, 3])
    assert StagingBuffer(small, blocks).device["slots"].tolist() == [1, 2]


def test_inputs_that_do_not_fit_in_their_blocks_are_refused() -> None:
    blocks = new_blocks([{"slots": Field((2,))}], "cpu")
    with pytest.raises(AssertionError, match="3 elements for a block of 2"):
        StagingBuffer({"slots": Field((3,))}, blocks)
