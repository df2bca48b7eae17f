"""How step times grow with the width."""

from __future__ import annotations

import pytest

from bench.capacity.widths import growth_share


def test_the_growth_is_a_share_of_the_time_of_one_stream() -> None:
    assert growth_share({1: 10.0, 2: 12.0, 3: 14.0, 4: 16.0}) == pytest.approx(0.2)
    assert growth_share({1: 10.0, 2: 10.0, 3: 10.0}) == 0.0
    assert growth_share({1: 10.0, 2: 9.0, 3: 8.0}) == 0.0
