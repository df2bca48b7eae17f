"""The split residual quantizer."""

from __future__ import annotations

import torch

from services.codec.model.mimi import Mimi


def codes_of(seed: int) -> torch.Tensor:
    return torch.randint(0, 2048, (1, 6, 8), generator=torch.Generator().manual_seed(seed))


def test_each_codebook_adds_its_own_vector(mimi: Mimi) -> None:
    quantizer = mimi.decoder._quantizer
    for codebook in range(8):
        differences: list[torch.Tensor] = []
        for seed in (1, 2):
            before, after = codes_of(seed), codes_of(seed)
            before[..., codebook], after[..., codebook] = 3, 1700
            differences.append(quantizer.decode(after) - quantizer.decode(before))
        assert torch.allclose(differences[0], differences[1], atol=1e-4)


def test_the_semantic_code_is_the_nearest_vector_of_its_codebook(mimi: Mimi) -> None:
    quantizer = mimi.encoder._quantizer
    x = quantizer.decode(codes_of(3))
    codes = quantizer.encode(x)
    assert codes.shape == (1, 6, 8)
    vectors = x[0] if quantizer._input is None else x[0] @ quantizer._input[0].T
    distances = (vectors[:, None] - quantizer._halves[0][0]).square().sum(2)  # [T, codebook size]
    assert codes[0, :, 0].tolist() == distances.argmin(1).tolist()
