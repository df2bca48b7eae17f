"""The part that all attention backends share: rotate, store, then attend."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from services.runtime.checkpoint.config import RopeConfig, StackConfig
from services.runtime.kvcache.attention import Metadata, PagedAttention, prompt_block_rows
from services.runtime.kvcache.pages import KVPages
from services.runtime.layers.rope import rotate, whole_angles

HEADS, KV_HEADS, HEAD_DIM = 4, 2, 6
LAYERS = 2


def new_pages(*, dtype: torch.dtype = torch.float32, heads: int = HEADS, kv_heads: int = KV_HEADS) -> KVPages:
    config = StackConfig(LAYERS, 8, heads, kv_heads, HEAD_DIM, 8, 1e-5, False, RopeConfig(10_000.0), 32)
    return KVPages(config, pages=5, page_size=4, max_positions=32, dtype=dtype, device="cpu")


@dataclass(frozen=True)
class ReturnsQueries(PagedAttention):
    """A backend without attention: the queries are the result."""

    kv: KVPages
    rows: Metadata

    @property
    def metadata(self) -> Metadata:
        return self.rows

    @property
    def block_rows(self) -> int:
        return 1

    @property
    def parts(self) -> int:
        return 1

    def attend_stored(self, layer: int, q: Tensor) -> Tensor:
        return q.flatten(1)


@pytest.fixture
def backend() -> ReturnsQueries:
    """Three rows: positions 0 and 1 in page 2, position 9 in page 4."""
    empty = torch.zeros(1, 4, dtype=torch.int64)
    return ReturnsQueries(new_pages(), Metadata(torch.tensor([0, 1, 9]), torch.tensor([8, 9, 17]), empty, empty))


def noise(rows: int) -> Tensor:
    """q, k and v of some rows, float32 [rows, heads + 2 * kv_heads, head_dim]."""
    return torch.randn(rows, HEADS + 2 * KV_HEADS, HEAD_DIM, generator=torch.Generator().manual_seed(0))


def test_queries_and_keys_are_rotated_by_the_positions_of_their_rows(backend: ReturnsQueries) -> None:
    qkv, kv = noise(3), backend.kv
    cos, sin = whole_angles(kv.cos[[0, 1, 9]], kv.sin[[0, 1, 9]])
    attended = backend.attend(1, qkv)
    assert attended.equal(rotate(qkv[:, :HEADS], cos, sin).flatten(1))
    stored = kv.k[1].flatten(0, 1)[[8, 9, 17]]
    assert stored.equal(rotate(qkv[:, HEADS:-KV_HEADS], cos, sin))
    assert attended[0].equal(qkv[0, :HEADS].flatten())  # position 0 is not rotated


def test_values_are_stored_as_they_are(backend: ReturnsQueries) -> None:
    qkv = noise(3)
    backend.attend(1, qkv)
    assert backend.kv.v[1].flatten(0, 1)[[8, 9, 17]].equal(qkv[:, -KV_HEADS:])


def test_a_layer_writes_its_own_pages_at_the_places_of_its_rows_only(backend: ReturnsQueries) -> None:
    backend.attend(1, noise(3))
    for stored in (backend.kv.k, backend.kv.v):
        written = stored.any(dim=-1).any(dim=-1).flatten(1)  # [layers, pages * page_size]
        assert written.nonzero().tolist() == [[1, 8], [1, 9], [1, 17]]


@pytest.mark.parametrize(
    ("dtype", "heads", "kv_heads", "rows"),
    [(torch.bfloat16, 4, 2, 32), (torch.float32, 4, 2, 8), (torch.float32, 6, 2, 5), (torch.float32, 64, 1, 1)],
)
def test_a_block_has_as_many_rows_as_their_queries_fit(
    dtype: torch.dtype, heads: int, kv_heads: int, rows: int
) -> None:
    """A row has `heads / kv_heads` queries. A program takes 64 queries, in float32 16, and at least one row."""
    assert prompt_block_rows(new_pages(dtype=dtype, heads=heads, kv_heads=kv_heads)) == rows
