"""The sentence and the status of every failure of the store."""

from __future__ import annotations

import pytest
from redis import exceptions as redis

from gateway.store.connection.failures import details, is_answer, is_silence, store_error


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (redis.OutOfMemoryError("command not allowed"), "RESOURCE_EXHAUSTED", "memory limit"),
        (redis.ResponseError("MISCONF Errors writing to the AOF file: No space left"), "RESOURCE_EXHAUSTED", "disk"),
        (redis.ReadOnlyError("You can't write"), "UNAVAILABLE", "it is a replica"),
        (redis.ResponseError("NOREPLICAS Not enough"), "UNAVAILABLE", "too few replicas"),
        (redis.ResponseError("BUSY script"), "UNAVAILABLE", "busy"),
        (redis.BusyLoadingError("loading"), "UNAVAILABLE", "loads its data"),
        (redis.MasterDownError("down"), "UNAVAILABLE", "primary"),
        (redis.ClusterCrossSlotError("slots"), "UNAVAILABLE", "cluster"),
        (redis.AuthenticationError("invalid username-password pair"), "UNAVAILABLE", "password"),
        (redis.NoPermissionError("User bob"), "UNAVAILABLE", "rights of its user"),
        (redis.ConnectionError("max number of clients reached"), "UNAVAILABLE", "no more connections"),
        (redis.ResponseError("WRONGTYPE of 10.0.0.5:6379"), "UNAVAILABLE", "refused a command"),
        (redis.ConnectionError("Error 111 connecting to 10.0.0.5:6379"), "UNAVAILABLE", "the store is away"),
        (redis.TimeoutError("Timeout reading from 10.0.0.5:6379"), "UNAVAILABLE", "does not answer in time"),
        (TimeoutError(), "UNAVAILABLE", "does not answer in time"),
        (OSError(101, "Network is unreachable"), "UNAVAILABLE", "the store is away"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_each_failure_has_a_fixed_sentence_without_names_and_addresses(
    error: Exception, status: str, words: str
) -> None:
    failure = store_error(error)
    assert failure.status == status
    assert words in failure.message
    assert failure.message.startswith("the store ")
    assert "Error" not in failure.message
    assert "10.0.0.5" not in failure.message


def test_the_log_gets_the_words_of_the_failure() -> None:
    assert details(redis.ConnectionError("Error 111")) == "ConnectionError: Error 111"
    assert details(TimeoutError()) == "TimeoutError"


def test_a_refusal_is_an_answer_and_a_timeout_is_silence() -> None:
    assert is_answer(redis.OutOfMemoryError())
    assert is_answer(redis.AuthenticationError())
    assert not is_answer(redis.ConnectionError())
    assert is_silence(TimeoutError())
    assert not is_silence(redis.ConnectionError())
