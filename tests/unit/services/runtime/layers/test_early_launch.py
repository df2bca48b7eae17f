"""Kernels begin early on devices that can do it."""

from __future__ import annotations

import pytest
import torch

from services.runtime.layers import early_launch
from services.runtime.layers.early_launch import begins_early, early_options


def test_a_cpu_never_begins_early() -> None:
    assert early_options(torch.device("cpu")) == {"EARLY": False}


@pytest.mark.parametrize(("capability", "early"), [((8, 9), False), ((9, 0), True), ((10, 3), True)])
def test_hopper_and_later_devices_begin_early(
    capability: tuple[int, int], early: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(early_launch, "begins_early", begins_early.__wrapped__)
    assert early_options(torch.device("cuda", 0)) == (
        {"EARLY": True, "launch_pdl": True} if early else {"EARLY": False}
    )
