"""The counts of several gateway processes, all in this one."""

from __future__ import annotations

import os

from gateway.processes.shared_counts import SharedCounts


def counts_of(processes: int) -> list[SharedCounts]:
    """The same counts, as each of so many processes sees them."""
    made = SharedCounts.create(processes)
    assert made.file is not None
    found = [SharedCounts.attach(os.dup(made.file.fileno()), processes, own) for own in range(processes)]
    made.close()
    return found
