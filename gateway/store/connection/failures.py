"""What a failed exchange with the store becomes: a domain error with a fixed sentence for the client.

The log has the details: the error that the store or the network gave. A client never reads a host, a port or the name
of an exception.
"""

from __future__ import annotations

import logging
import time

from redis import exceptions as redis

from services.common.errors import ChromaError, ResourceExhausted, Unavailable

log = logging.getLogger(__name__)

_LOG_AGAIN_S = 60.0

STORE_FAILURES = (Unavailable, ResourceExhausted)
"""What an exchange with the store raises when it fails."""

AWAY = "the store is away"
SILENT = "the store does not answer in time"
_REFUSED = "the store refuses the gateway: its password, its user or the rights of its user are wrong"
_REPLICA = "the store takes no writes: it is a replica"
_FULL_RETRY_AFTER_S = 30.0
"""A full store has no room before somebody makes some."""

_BY_CLASS: tuple[tuple[type[Exception] | tuple[type[Exception], ...], str], ...] = (
    ((redis.AuthenticationError, redis.AuthorizationError, redis.NoPermissionError), _REFUSED),
    (redis.ReadOnlyError, _REPLICA),
    (redis.BusyLoadingError, "the store is starting: it loads its data"),
    (
        (redis.MasterDownError, redis.ClusterDownError, redis.TryAgainError),
        "the store is away: it has lost its primary",
    ),
    ((redis.MovedError, redis.AskError), "the store is a cluster, and its URL does not say so"),
    (redis.ClusterCrossSlotError, "the store is a cluster, and keys of an earlier version lie on several servers"),
)
_BY_WORD = {
    "NOREPLICAS": "the store takes no writes: it has too few replicas",
    "BUSY": "the store is busy: a script runs for too long",
    "max": "the store takes no more connections",
}
"""The client's sentence by the first word of an answer for which redis-py has no class."""


class OutcomeUnknown(Unavailable):
    """A write failed in a way that does not tell whether the store has it."""


def store_error(error: Exception) -> ChromaError:
    """The domain error of a failed exchange: of an error answer, a lost connection or a timeout."""
    word = next(iter(str(error).split()), "")
    if is_silence(error):
        return Unavailable(SILENT)
    if isinstance(error, redis.OutOfMemoryError):
        return _full("the store is full: its memory limit is reached")
    if word == "MISCONF":
        return _full("the store is full: it cannot write to its disk")
    for kind, message in _BY_CLASS:
        if isinstance(error, kind):
            return Unavailable(message)
    if word in _BY_WORD:
        return Unavailable(_BY_WORD[word])
    return Unavailable("the store refused a command" if isinstance(error, redis.ResponseError) else AWAY)


class FailureLog:
    """The failures of a store, each of which is logged once a minute."""

    def __init__(self) -> None:
        self._logged: dict[str, float] = {}
        """When each failure was logged last, in monotonic seconds. There are only a few sentences."""

    def failed(self, error: Exception) -> ChromaError:
        """The domain error of a failure."""
        failure = store_error(error)
        now_s = time.monotonic()
        if now_s - self._logged.get(failure.message, -_LOG_AGAIN_S) >= _LOG_AGAIN_S:
            self._logged[failure.message] = now_s
            log.warning("%s (%s)", failure.message, details(error))
        return failure


def is_silence(error: Exception) -> bool:
    """Whether no answer came within the time: the store hangs, or the network loses everything."""
    return isinstance(error, (TimeoutError, redis.TimeoutError))


def is_answer(error: Exception) -> bool:
    """Whether the store itself refused the command, so that the command had no effect."""
    return isinstance(error, (redis.ResponseError, redis.AuthenticationError, redis.BusyLoadingError))


def details(error: Exception) -> str:
    """The failure in the words of the store or the network, for the log."""
    return f"{type(error).__name__}: {error}".removesuffix(": ")


def _full(message: str) -> ResourceExhausted:
    return ResourceExhausted(message, retry_after_s=_FULL_RETRY_AFTER_S, resource="store")
