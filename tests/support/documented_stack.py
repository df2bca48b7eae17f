"""The system in a folder that looks like a checkout, started there by a block of a document."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from chroma_voice.local.ports import free_ports
from tests.support.local_stack import PATIENCE_S, LocalStack
from tests.support.shell import checkout, commands, run_shell

COPIED = ("clients/go", "clients/node")
"""Where the commands of documents write."""


@dataclass(frozen=True)
class DocumentedStack:
    """A running system. `printed` is what its start printed."""

    checkout: Path
    path: str
    """The variable PATH, with `chroma-voice`."""
    ports: dict[str, str]
    """Ports in the documents, and the free ports of this machine in their place."""
    stack: LocalStack
    printed: str

    def run(self, code: str, **variables: str) -> str:
        """Run a block in the checkout, with this machine's ports. Returns what it prints."""
        own = {"PATH": self.path, **variables}
        return run_shell(_replaced(code, self.ports), self.checkout, own, limit_s=2 * PATIENCE_S)


@contextlib.contextmanager
def started(code: str, folder: Path) -> Iterator[DocumentedStack]:
    """Run the block that starts the system, and stop it at the end."""
    path, root = commands(folder / "bin"), checkout(folder / "checkout", *COPIED)
    http, grpc = map(str, free_ports(2))
    ports = {"8080": http, "50051": grpc}
    stack = LocalStack(root / "state")
    try:
        printed = run_shell(_replaced(code, ports), root, {"PATH": path}, limit_s=2 * PATIENCE_S)
        yield DocumentedStack(root, path, ports, stack, printed)
    finally:
        stack.stop()


def _replaced(code: str, ports: dict[str, str]) -> str:
    for theirs, ours in ports.items():
        code = code.replace(f":{theirs}", f":{ours}")
    return code
