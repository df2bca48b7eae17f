"""The wire's `Sampling` read as `SamplingParams`."""

from __future__ import annotations

import pytest

from chroma.v1.generation_pb2 import Sampling
from services.common.errors import InvalidArgument
from services.common.sampling import SamplingParams
from services.common.wire.sampling import from_message


def test_unset_fields_keep_the_defaults() -> None:
    defaults = SamplingParams(temperature=0.5, top_k=7, top_p=0.75, seed=1)
    assert from_message(Sampling(), defaults) == defaults
    assert from_message(Sampling(top_p=0.5, seed=0), defaults) == SamplingParams(
        temperature=0.5, top_k=7, top_p=0.5, seed=0
    )


def test_every_field_of_the_message_is_read() -> None:
    message = Sampling(greedy=True, temperature=2.0, top_k=3, top_p=0.5, seed=2**64 - 1)
    assert from_message(message) == SamplingParams(greedy=True, temperature=2.0, top_k=3, top_p=0.5, seed=2**64 - 1)


def test_a_message_that_draws_overrules_greedy_defaults() -> None:
    assert from_message(Sampling(temperature=2.0), SamplingParams(greedy=True)) == SamplingParams(temperature=2.0)
    assert from_message(Sampling(seed=4), SamplingParams(greedy=True)).greedy


@pytest.mark.parametrize(
    "message", [Sampling(temperature=0.0), Sampling(temperature=float("nan")), Sampling(top_k=0), Sampling(top_p=1.5)]
)
def test_a_set_field_out_of_range_is_refused(message: Sampling) -> None:
    with pytest.raises(InvalidArgument, match="expected"):
        from_message(message)
