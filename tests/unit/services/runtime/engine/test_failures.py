"""Failures of an engine: counted until a step succeeds, and told without what only the log may say."""

import logging

import pytest

from services.common.errors import ResourceExhausted
from services.runtime.engine.failures import (
    MAX_FAILURES_IN_A_ROW,
    EngineStopped,
    Failures,
    PhaseFailed,
    ending_error,
)


def fail(failures: Failures, times: int) -> None:
    for _ in range(times):
        failures.in_phase("step", RuntimeError("broken"), streams=1)


def test_failures_in_a_row_are_fatal_and_the_reason_names_the_phase() -> None:
    failures = Failures()
    fail(failures, MAX_FAILURES_IN_A_ROW - 1)
    assert failures.fatal is None
    fail(failures, 1)
    assert "`step`" in str(failures.fatal)


def test_a_step_that_succeeds_starts_the_count_again() -> None:
    failures = Failures()
    for _ in range(3):
        fail(failures, MAX_FAILURES_IN_A_ROW - 1)
        failures.step_succeeded()
    assert failures.fatal is None


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("could not create a primitive")])
def test_full_memory_of_the_host_is_fatal_at_once_and_the_streams_are_told_that_the_engine_stopped(
    error: Exception,
) -> None:
    failures = Failures()
    failures.in_phase("step", error, streams=1)
    assert failures.fatal == "the host's memory is full in `step`"
    assert isinstance(ending_error("step", error), EngineStopped)


def test_a_stream_is_told_a_domain_error_as_it_is() -> None:
    full = ResourceExhausted("the KV memory is full")
    assert ending_error("step", full) is full


def test_a_stream_is_told_only_the_kind_of_an_unexpected_error() -> None:
    error = ending_error("step", RuntimeError("/srv/secret/weights"))
    assert isinstance(error, PhaseFailed)
    assert "RuntimeError" in str(error)
    assert "secret" not in str(error)


def test_a_failed_measurement_is_logged_once_and_is_not_fatal(caplog: pytest.LogCaptureFixture) -> None:
    failures = Failures()
    with caplog.at_level(logging.ERROR):
        for _ in range(MAX_FAILURES_IN_A_ROW + 1):
            failures.in_measurement("observe", RuntimeError("broken"))
    assert len(caplog.records) == 1
    assert failures.fatal is None
