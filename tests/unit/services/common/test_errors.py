"""The domain errors: each becomes a status that gRPC has, and keeps its message."""

from __future__ import annotations

import grpc
import pytest

from services.common import errors
from services.common.errors import ChromaError, ResourceExhausted

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, ChromaError)]


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_becomes_a_status_that_grpc_has_and_keeps_its_message(kind: type[ChromaError]) -> None:
    assert kind.status in grpc.StatusCode.__members__
    error = kind("expected 1, got 2")
    assert error.message == str(error) == "expected 1, got 2"


def test_each_error_without_a_subclass_has_its_own_status() -> None:
    direct = [kind for kind in KINDS if kind.__bases__ == (ChromaError,)]
    assert len({kind.status for kind in direct}) == len(direct)


def test_a_full_service_says_when_to_retry_and_what_is_full() -> None:
    error = ResourceExhausted("all slots are taken", resource="slots")
    assert error.retry_after_s > 0
    assert error.resource == "slots"


@pytest.mark.parametrize("kind", [kind for kind in KINDS if errors.FailedPrecondition not in kind.__bases__])
def test_a_status_becomes_its_error_again(kind: type[ChromaError]) -> None:
    error = errors.from_status(kind.status, "why")
    assert (type(error), error.message) == (kind, "why")


def test_a_status_without_an_error_of_its_own_becomes_the_root() -> None:
    assert type(errors.from_status("DATA_LOSS", "why")) is ChromaError


def test_a_long_message_is_cut() -> None:
    assert ChromaError("a" * errors.MAX_MESSAGE_CHARS).message == "a" * errors.MAX_MESSAGE_CHARS
    cut = ChromaError("a" * 100_000).message
    assert len(cut) == errors.MAX_MESSAGE_CHARS
    assert cut.endswith("…")
