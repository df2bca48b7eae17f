"""Names of what was forgotten a short time ago, so that a late stream does not bring it back into a cache."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable

FORGOTTEN_S = 600.0
"""How long a name stays forgotten: longer than a turn that was running at the time."""


class Forgotten:
    """The names that were forgotten in the last `FORGOTTEN_S` seconds. `clock`: monotonic seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._since: OrderedDict[Hashable, float] = OrderedDict()
        """When each was forgotten, oldest first."""

    def __contains__(self, name: Hashable) -> bool:
        since_s = self._since.get(name)
        return since_s is not None and self._clock() - since_s < FORGOTTEN_S

    def __len__(self) -> int:
        return len(self._since)

    def add(self, name: Hashable) -> None:
        """Forget a name from now on. Drops the names whose time is over."""
        now_s = self._clock()
        self._since.pop(name, None)
        self._since[name] = now_s
        while now_s - next(iter(self._since.values())) >= FORGOTTEN_S:
            self._since.popitem(last=False)
