from __future__ import annotations

import math

import pytest

from chroma_voice.bench.load.arrivals import poisson, ramp
from chroma_voice.errors import InvalidArgument


def test_poisson_arrivals_have_their_rate_and_exponential_gaps() -> None:
    arrivals = poisson(5.0, 2_000.0, seed=1)
    assert len(arrivals) == pytest.approx(10_000, abs=4 * math.sqrt(10_000))
    assert arrivals == sorted(arrivals)
    assert 0.0 < arrivals[0] < arrivals[-1] < 2_000.0
    gaps_s = [after - before for before, after in zip([0.0, *arrivals], arrivals, strict=False)]
    assert sum(gap_s > 0.2 for gap_s in gaps_s) / len(gaps_s) == pytest.approx(math.exp(-1), abs=0.02)


@pytest.mark.parametrize(("from_rate", "to_rate"), [(0.0, 10.0), (10.0, 0.0), (2.0, 8.0)])
def test_a_ramp_goes_evenly_from_one_rate_to_the_other(from_rate: float, to_rate: float) -> None:
    arrivals = ramp(from_rate, to_rate, 1_000.0, seed=2)
    for quarter in range(4):
        middle_rate = from_rate + (to_rate - from_rate) * (quarter + 0.5) / 4
        count = sum(quarter * 250 <= at_s < (quarter + 1) * 250 for at_s in arrivals)
        assert count == pytest.approx(250 * middle_rate, abs=4 * math.sqrt(250 * middle_rate))


def test_a_seed_gives_the_same_arrivals_again() -> None:
    assert poisson(1.0, 100.0, seed=3) == poisson(1.0, 100.0, seed=3) != poisson(1.0, 100.0, seed=4)


@pytest.mark.parametrize(
    "rates", [(-1.0, 1.0, 10.0), (0.0, 0.0, 10.0), (1.0, 1.0, 0.0), (math.nan, 1.0, 10.0), (1.0, math.inf, 10.0)]
)
def test_rates_without_arrivals_are_refused(rates: tuple[float, float, float]) -> None:
    with pytest.raises(InvalidArgument, match="expected a"):
        ramp(*rates, seed=0)
