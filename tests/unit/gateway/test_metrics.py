"""The gateway's metrics that are more than a counter."""

from __future__ import annotations

import math

import pytest
from prometheus_client import REGISTRY

from gateway.metrics import show_replicas, show_shared_checkpoints, store_exchange
from services.common.errors import Unavailable


def _value(name: str, **labels: str) -> float:
    value = REGISTRY.get_sample_value(f"chroma_voice_{name}", labels)
    assert value is not None, name
    return value


def test_replicas_that_do_not_serve_are_away() -> None:
    show_replicas("codec", lambda: 3, lambda: 2, lambda: 1)
    assert _value("replicas", stage="codec", state="serving") == 2
    assert _value("replicas", stage="codec", state="away") == 1
    assert _value("replicas_ejected", stage="codec") == 1


@pytest.mark.parametrize(("shared", "count"), [({"one", "new"}, 2.0), (set[str](), 0.0)], ids=["two", "none"])
def test_the_shared_checkpoints_are_counted(shared: set[str], count: float) -> None:
    show_shared_checkpoints(lambda: shared)
    assert _value("shared_checkpoints") == count


def test_unknown_checkpoints_are_not_a_number() -> None:
    show_shared_checkpoints(lambda: None)
    assert math.isnan(_value("shared_checkpoints"))


def test_every_exchange_with_the_store_is_timed_and_a_domain_error_counts_as_its_failure() -> None:
    timed, failed = _value("store_seconds_count", operation="read"), _value("store_errors_total", operation="read")
    with store_exchange("read"):
        pass
    with pytest.raises(Unavailable), store_exchange("read"):
        raise Unavailable("the store is away")
    assert _value("store_seconds_count", operation="read") == timed + 2
    assert _value("store_errors_total", operation="read") == failed + 1
