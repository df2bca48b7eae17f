"""Pages of keys and values: their shapes, how many a stream needs, and copies of some of them."""

from __future__ import annotations

import pytest
import torch

from services.runtime.checkpoint.config import RopeConfig, StackConfig
from services.runtime.kvcache.pages import KVPages
from services.runtime.layers.rope import rotary_table

CONFIG = StackConfig(3, 8, 4, 2, 6, 8, 1e-5, False, RopeConfig(10_000.0), 32)


def new_pages(dtype: torch.dtype = torch.float32) -> KVPages:
    return KVPages(CONFIG, pages=7, page_size=4, max_positions=20, dtype=dtype, device="cpu")


def numbered_pages() -> KVPages:
    """Keys hold the number of their page, values 100 more, and both 1000 more for each layer."""
    kv = new_pages()
    numbers = torch.arange(7.0)[None, :, None, None, None] + 1000 * torch.arange(3.0)[:, None, None, None, None]
    kv.k += numbers
    kv.v += numbers + 100
    return kv


def test_memory_is_zero_in_the_compute_dtype_and_angles_are_float32() -> None:
    kv = new_pages(torch.bfloat16)
    for stored in (kv.k, kv.v):
        assert stored.shape == (3, 7, 4, 2, 6)
        assert stored.dtype == torch.bfloat16
        assert not stored.any()
    for found, expected in zip((kv.cos, kv.sin), rotary_table(CONFIG, 20), strict=True):
        assert found.equal(expected)
        assert found.dtype == torch.float32


@pytest.mark.parametrize(("positions", "pages"), [(0, 0), (1, 1), (4, 1), (5, 2), (20, 5)])
def test_a_page_is_needed_for_each_part_of_a_page(positions: int, pages: int) -> None:
    assert new_pages().pages_for(positions) == pages


def test_gathered_pages_come_in_the_order_asked_for_and_repeat() -> None:
    k, v = numbered_pages().gather(1, torch.tensor([5, 0, 5]))
    assert k.shape == v.shape == (3, 4, 2, 6)
    assert k[:, 0, 0, 0].tolist() == [1005, 1000, 1005]
    assert v[:, 3, 1, 5].tolist() == [1105, 1100, 1105]


def test_gathered_pages_are_copies() -> None:
    kv = numbered_pages()
    k, _ = kv.gather(0, torch.tensor([2]))
    k.zero_()
    assert kv.k[0, 2].eq(2).all()


def test_the_next_gathering_uses_the_same_memory_until_it_needs_more() -> None:
    kv = numbered_pages()
    address = kv.gather(0, torch.tensor([1, 2]))[0].data_ptr()
    assert kv.gather(2, torch.tensor([3]))[0].data_ptr() == address
    k, v = kv.gather(2, torch.arange(7))
    assert k[:, 0, 0, 0].tolist() == [2000 + page for page in range(7)]
    assert v[:, 0, 0, 0].tolist() == [2100 + page for page in range(7)]


def test_memory_that_grew_in_inference_mode_can_be_written_outside_it() -> None:
    kv = numbered_pages()
    with torch.inference_mode():
        kv.gather(0, torch.tensor([1, 2]))
    k, _ = kv.gather(0, torch.tensor([3]))
    assert k.eq(3).all()
