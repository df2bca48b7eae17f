"""The fitted quantizer: the range of its codes, and the error of the patches that they describe."""

from __future__ import annotations

import pytest
import torch

from checkpoints.presets import preset_config
from tests.support.toy_speech import toy_patches
from train.codec.mimi import build_mimi, codebooks
from train.codec.patch_quantizer import PatchQuantizer

SIZE, WIDTH = 16, 16


@pytest.fixture(scope="module")
def patches() -> torch.Tensor:
    return toy_patches(clips=8)[1]


@pytest.fixture(scope="module")
def quantizer(patches: torch.Tensor) -> PatchQuantizer:
    torch.manual_seed(0)
    return PatchQuantizer.fit(patches, codebooks=8, codebook_size=SIZE, width=WIDTH)


@pytest.fixture(scope="module")
def codes(quantizer: PatchQuantizer, patches: torch.Tensor) -> torch.Tensor:
    return quantizer.encode(quantizer.components(patches))


def test_codes_are_in_range_and_every_codebook_is_used(codes: torch.Tensor, patches: torch.Tensor) -> None:
    assert codes.shape == (len(patches), 8)
    assert codes.min() >= 0
    assert codes.max() < SIZE
    assert all(len(codes[:, book].unique()) > SIZE // 2 for book in range(8))


def test_no_patch_gets_the_end_code(codes: torch.Tensor, quantizer: PatchQuantizer) -> None:
    assert codes[:, 0].min() >= 1
    strange = quantizer.encode(torch.randn(500, WIDTH) * 50)
    assert strange[:, 0].min() >= 1


def test_error_falls_with_every_codebook_from_below_the_mean_patch(
    codes: torch.Tensor, quantizer: PatchQuantizer, patches: torch.Tensor
) -> None:
    errors = [float((quantizer.reconstruct(codes, codebooks=used) - patches).square().mean()) for used in range(1, 8)]
    of_the_mean = float((patches - patches.mean(0)).square().mean())
    assert errors == sorted(errors, reverse=True)
    assert errors[0] < 0.7 * of_the_mean
    assert errors[-1] < 0.3 * of_the_mean


def test_tensors_round_trip(quantizer: PatchQuantizer, patches: torch.Tensor, codes: torch.Tensor) -> None:
    again = PatchQuantizer.from_tensors(quantizer.tensors())
    assert torch.equal(again.encode(again.components(patches)), codes)


def test_a_quantizer_is_found_again_from_its_codebooks_and_codes_with_errors(
    quantizer: PatchQuantizer, patches: torch.Tensor, codes: torch.Tensor
) -> None:
    torch.manual_seed(0)
    wrong = torch.rand(codes.shape) < 0.1
    heard = torch.where(wrong, torch.randint(1, SIZE, codes.shape), codes)
    again = PatchQuantizer.recovered(quantizer.codebooks, heard, patches)
    identity = again.basis.T @ again.basis
    torch.testing.assert_close(identity, torch.eye(WIDTH), atol=1e-4, rtol=0)
    same = (again.encode(again.components(patches)) == codes).float().mean(0)
    assert same[0] > 0.9
    assert same[1] > 0.8
    known, found = (one.reconstruct(one.encode(one.components(patches))) for one in (quantizer, again))
    spread = (patches - patches.mean(0)).square().mean()
    assert (found - patches).square().mean() < (known - patches).square().mean() + 0.1 * spread


def test_installed_mimi_quantizes_its_projections_to_the_same_codes(
    quantizer: PatchQuantizer, patches: torch.Tensor, codes: torch.Tensor
) -> None:
    config = {**preset_config("tiny")["codec_config"], "codebook_size": SIZE, "codebook_dim": WIDTH}
    model = build_mimi(config | {"vector_quantization_hidden_dimension": WIDTH, "hidden_size": 32})
    quantizer.install(model)
    assert torch.equal(torch.stack([codebook.embed for codebook in codebooks(model)]), quantizer.codebooks)
    components = quantizer.components(patches)
    halves = model.quantizer.semantic_residual_vector_quantizer, model.quantizer.acoustic_residual_vector_quantizer
    scales = quantizer.semantic_scale, quantizer.acoustic_scale
    found = []
    for half, scale in zip(halves, scales, strict=True):
        half.input_proj = None  # given its outputs instead of latents
        found.append(half.encode((components * scale).T[None])[:, 0].T)
    assert torch.equal(torch.cat(found, dim=1), codes)


def test_the_end_code_is_silent_in_the_decoder(quantizer: PatchQuantizer) -> None:
    config = {**preset_config("tiny")["codec_config"], "codebook_size": SIZE}
    model = build_mimi(config)
    quantizer.install(model)
    latent = model.quantizer.semantic_residual_vector_quantizer.decode(torch.zeros(1, 1, 1, dtype=torch.int64))
    assert torch.equal(latent, torch.zeros_like(latent))


def test_too_few_patches_are_refused(patches: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="at least 15 rows, got 10"):
        PatchQuantizer.fit(patches[:10], codebooks=8, codebook_size=SIZE, width=8)
