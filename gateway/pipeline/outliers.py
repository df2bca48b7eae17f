"""Ejection of a replica that fails again and again although its health check says SERVING.

After some failures in a row a replica gets no calls for a while. Then one call probes it: a success brings it back, a
failure ejects it for twice as long.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from gateway.metrics import EJECTIONS
from gateway.pipeline.calls import Hangs
from services.common.errors import ChromaError

log = logging.getLogger(__name__)

_FAILURES = 3
"""Failures in a row that eject a replica. A hang ejects it at once: it cost a caller all its patience."""
_FIRST_EJECTION_S = 5.0
_LONGEST_EJECTION_S = 300.0
_FORGET_AFTER_S = 300.0
"""A replica that was well for this long is ejected for the first time again."""
_COUNTED = ("INTERNAL", "UNAVAILABLE")


class Outlier:
    """The failures of one replica, and whether it may be called. Times are monotonic seconds."""

    def __init__(self, stage: str, address: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.ejected = False
        """Whether the replica is ejected; also while a call probes it."""
        self._name = f"{stage} at {address}"
        self._stage = stage
        self._clock = clock
        self._failures = 0
        self._failed_s = 0.0
        """When the last counted failure came."""
        self._ejections = 0
        """Ejections since the replica was last well for long."""
        self._until_s = 0.0
        self._well_since_s = 0.0
        self._probing = False
        """Whether a call probes the replica."""
        self._probe_begins = False
        """Whether the call that `take` allowed last is such a probe and has not begun."""

    def take(self) -> bool:
        """Whether a call may go to the replica. An ejected one whose time is over takes one call at a time."""
        if not self.ejected:
            return True
        if self._probing or self._clock() < self._until_s:
            return False
        self._probing = self._probe_begins = True
        return True

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Count how the call in the body ends."""
        began_s = self._clock()
        probes, self._probe_begins = self._probe_begins, False
        try:
            yield
        except ChromaError as error:
            if error.status in _COUNTED:
                self._count(error, began_s, probes=probes)
            raise
        else:
            self._succeeded()
        finally:
            if probes:
                self._probing = False

    def reset(self) -> None:
        """Forget all failures: the replica has begun to serve, perhaps as another process."""
        self.ejected, self._failures, self._ejections = False, 0, 0

    def _count(self, error: ChromaError, began_s: float, *, probes: bool) -> None:
        """Count a failure. One failed step ends many calls at once: those that began before the last failure do not
        count again."""
        now_s = self._clock()
        if began_s >= self._failed_s:
            self._failures += 1
            self._failed_s = now_s
        if probes or (not self.ejected and (self._failures >= _FAILURES or isinstance(error, Hangs))):
            self._eject(error, now_s)

    def _eject(self, error: ChromaError, now_s: float) -> None:
        if not self.ejected and now_s - self._well_since_s > _FORGET_AFTER_S:
            self._ejections = 0
        self._ejections += 1
        seconds = min(_LONGEST_EJECTION_S, _FIRST_EJECTION_S * 2 ** (self._ejections - 1))
        self.ejected, self._until_s = True, now_s + seconds
        EJECTIONS.labels(self._stage).inc()
        log.warning("%s fails again and again (%s): it gets no calls for %.0f s", self._name, error.message, seconds)

    def _succeeded(self) -> None:
        self._failures = 0
        if self.ejected:
            self.ejected, self._well_since_s = False, self._clock()
            log.warning("%s works again and gets calls", self._name)
