"""A device that cannot be used is refused in one line, before any weights are read."""

from __future__ import annotations

import pytest
import torch

from services.common.errors import FailedPrecondition
from services.runtime.device import prepare_device


def test_the_cpu_can_be_used() -> None:
    prepare_device("cpu", threads=0)


def test_threads_are_set() -> None:
    before = torch.get_num_threads()
    try:
        prepare_device("cpu", threads=before + 1)
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("name", ["banana", "cuda:99"])
def test_a_device_that_is_not_there_is_named_in_one_line(name: str) -> None:
    with pytest.raises(FailedPrecondition, match=f"the device '{name}' cannot be used here: ") as raised:
        prepare_device(name, threads=0)
    assert "\n" not in raised.value.message
