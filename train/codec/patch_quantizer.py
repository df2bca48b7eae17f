"""The codec's quantizer, fitted to mel patches by principal components and k-means, not learned with the codec.

Mimi quantizes two projections of one latent: a semantic one with codebook 0, an acoustic one with codebooks 1 to 7.
Here both are fixed functions of the patch's principal components: the semantic branch sees the first few, the acoustic
branch all of them. So the codes do not depend on any network, and decoder and encoder are trained separately with them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

import torch
from torch import Tensor
from transformers import MimiModel

from train.codec.mimi import codebooks, output_projections

_SEMANTIC_SHARE = 3 / 16
"""Share of the components that the semantic branch sees: 12 of 64. The last one is the end code's."""
_ACOUSTIC_WEIGHT = 0.6
"""Weight of these components in the acoustic branch: codebook 0 already describes them."""
_FIT_ROWS = 60_000
_ROUNDS = 20
_ROWS_AT_ONCE = 16_384


@dataclass(frozen=True)
class PatchQuantizer:
    """P values per patch, D components, K codebooks of N codes. No patch gets code 0 of codebook 0, the end code."""

    mean: Tensor
    """[P]"""
    basis: Tensor
    """[P, D], orthonormal columns, largest variance first."""
    semantic_scale: Tensor
    """[D], factors of the components in the semantic branch."""
    acoustic_scale: Tensor
    """[D], factors of the components in the acoustic branch."""
    codebooks: Tensor
    """[K, N, D]; float16 holds the values exactly."""

    @classmethod
    def fit(cls, patches: Tensor, *, codebooks: int, codebook_size: int, width: int) -> PatchQuantizer:
        """Fit to patches [R, P]: `width` components, then each codebook to the residual of the earlier ones."""
        patches = patches[torch.randperm(len(patches))[:_FIT_ROWS]]
        mean = patches.mean(0)
        centred = patches - mean
        _, vectors = torch.linalg.eigh(centred.T @ centred)
        basis = vectors.flip(1)[:, :width].contiguous()
        semantic_scale, acoustic_scale = _scales(width)
        components = centred @ basis
        semantic = components * semantic_scale
        end = torch.zeros(1, width)
        end[0, -1] = semantic.norm(dim=1).max()  # farther from every patch than the mean patch is
        tables = [torch.cat((end, _k_means(semantic, codebook_size - 1))).half().float()]
        rest = components * acoustic_scale
        for _ in range(1, codebooks):
            table = _k_means(rest, codebook_size).half().float()
            rest = rest - table[_nearest(rest, table)[0]]
            tables.append(table)
        return cls(mean, basis, semantic_scale, acoustic_scale, torch.stack(tables))

    @classmethod
    def recovered(cls, codebooks: Tensor, codes: Tensor, patches: Tensor) -> PatchQuantizer:
        """The quantizer of a trained codec, from its codebooks [K, N, D] and its codes [R, K] of patches [R, P].

        A checkpoint holds the codebooks, but neither mean nor basis. The basis is the rotation that best maps what the
        codes stand for to the patches (orthogonal Procrustes), so a few thousand patches are enough although the
        codec's encoder errs.
        """
        semantic_scale, acoustic_scale = _scales(codebooks.shape[2])
        stand_for = sum(table[codes[:, index]] for index, table in enumerate(codebooks[1:], 1)) / acoustic_scale
        left, _, right = torch.linalg.svd(
            (patches - patches.mean(0)).T @ (stand_for - stand_for.mean(0)), full_matrices=False
        )
        basis = left @ right
        return cls(patches.mean(0) - basis @ stand_for.mean(0), basis, semantic_scale, acoustic_scale, codebooks)

    def components(self, patches: Tensor) -> Tensor:
        """[..., P] -> [..., D]."""
        return (patches - self.mean) @ self.basis

    def encode(self, components: Tensor) -> Tensor:
        """[T, D] -> codes [T, K] int64."""
        codes = [_nearest(components * self.semantic_scale, self.codebooks[0])[0]]
        rest = components * self.acoustic_scale
        for table in self.codebooks[1:]:
            nearest = _nearest(rest, table)[0]
            rest = rest - table[nearest]
            codes.append(nearest)
        return torch.stack(codes, dim=-1)

    def reconstruct(self, codes: Tensor, *, codebooks: int | None = None) -> Tensor:
        """Codes [T, K] -> patches [T, P], from the acoustic branch's first `codebooks` codebooks, or all."""
        tables = self.codebooks[1:][:codebooks]
        acoustic = torch.stack([table[codes[:, index]] for index, table in enumerate(tables, 1)]).sum(0)
        return (acoustic / self.acoustic_scale) @ self.basis.T + self.mean

    def install(self, model: MimiModel) -> None:
        """Write the codebooks into a Mimi of the same sizes. The projections stay unchanged except for the end code.

        The end code decodes to zero: its component of the semantic output projection is set to zero.
        """
        with torch.no_grad():
            for codebook, table in zip(codebooks(model), self.codebooks, strict=True):
                codebook.embed_sum.copy_(table)
                codebook.cluster_usage.fill_(1.0)
                codebook._embed = None  # its cache of embed_sum / cluster_usage
            output_projections(model)[0][:, -1] = 0.0

    def tensors(self) -> dict[str, Tensor]:
        """The tensors by field name, for a safetensors file."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], device: str | torch.device = "cpu") -> PatchQuantizer:
        """The inverse of `tensors`."""
        return cls(**{field.name: tensors[field.name].to(device) for field in fields(cls)})


def _scales(width: int) -> tuple[Tensor, Tensor]:
    """The factors of the components in the semantic and the acoustic branch, [width] each."""
    semantic_width = max(1, round(_SEMANTIC_SHARE * width))
    semantic, acoustic = torch.zeros(width), torch.ones(width)
    semantic[:semantic_width] = 1.0
    acoustic[:semantic_width] = _ACOUSTIC_WEIGHT
    return semantic, acoustic


def _k_means(rows: Tensor, clusters: int) -> Tensor:
    """Rows [R, D] -> centres [clusters, D]. A centre that loses its rows moves to one that is far from all centres."""
    if len(rows) < clusters:
        raise ValueError(f"k-means: expected at least {clusters} rows, got {len(rows)}")
    centres = rows[torch.randperm(len(rows))[:clusters]].clone()
    for _ in range(_ROUNDS):
        nearest, distances = _nearest(rows, centres)
        sums = torch.zeros_like(centres).index_add_(0, nearest, rows)
        counts = torch.bincount(nearest, minlength=clusters)
        centres = sums / counts.clamp(min=1)[:, None]
        empty = (counts == 0).nonzero()[:, 0]
        if len(empty):
            centres[empty] = rows[torch.multinomial(distances.square() + 1e-9, len(empty))]
    return centres


def _nearest(rows: Tensor, table: Tensor) -> tuple[Tensor, Tensor]:
    """For each row of [R, D]: the index of its nearest entry [R] and the distance [R]."""
    parts = [torch.cdist(part[None], table[None])[0].min(dim=1) for part in rows.split(_ROWS_AT_ONCE)]
    return torch.cat([part.indices for part in parts]), torch.cat([part.values for part in parts])
