"""train/pack/average.py: the mean of two trainings."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from train.optim.training_loop import load_artefact, save_artefact
from train.pack.average import main, mean_of


def test_the_mean_replaces_the_artefact(tmp_path: Path) -> None:
    later, earlier = tmp_path / "part.safetensors", tmp_path / "earlier.safetensors"
    save_artefact(later, {"weight": torch.tensor([1.0, 4.0]), "count": torch.tensor(3)})
    save_artefact(earlier, {"weight": torch.tensor([3.0, 0.0]), "count": torch.tensor(3)})
    main(later, earlier)
    found = load_artefact(later)
    assert found["weight"].tolist() == [2.0, 2.0]
    assert found["count"].item() == 3


@pytest.mark.parametrize("other", [{"weight": torch.zeros(3)}, {"weight": torch.zeros(2), "more": torch.zeros(1)}, {}])
def test_parts_that_are_not_alike_are_refused(other: dict[str, torch.Tensor]) -> None:
    with pytest.raises(ValueError, match="1 tensors are not alike in both, among them"):
        mean_of({"weight": torch.zeros(2)}, other)
