"""The system in a folder that looks like a checkout, started there by a block of a document."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support.local_stack import PATIENCE_S
from tests.support.private_network import private_network
from tests.support.shell import checkout, commands, run_shell

COPIED = ("clients/go", "clients/node")
"""Where the commands of documents write."""
PORTS = (8080, 50051)
"""Of the addresses in the documents."""


@dataclass(frozen=True)
class DocumentedStack:
    """A running system. `printed` is what its start printed."""

    checkout: Path
    path: str
    """The variable PATH, with `chroma-voice`."""
    network: list[str]
    """The words before a command that reaches the system."""
    printed: str

    def run(
        self,
        code: str,
        folder: Path | None = None,
        variables: Mapping[str, str] | None = None,
        before: Sequence[str] = (),
    ) -> str:
        """Run a block in the checkout, or in another folder, with more words `before` it. Returns what it prints."""
        own = {"PATH": self.path, **(variables or {})}
        where = folder or self.checkout
        return run_shell(code, where, own, limit_s=2 * PATIENCE_S, before=[*self.network, *before])


@contextlib.contextmanager
def started(code: str, folder: Path) -> Iterator[DocumentedStack]:
    """Run the block that starts the system, and stop it at the end."""
    path, root = commands(folder / "bin"), checkout(folder / "checkout", *COPIED)
    with private_network(*PORTS) as network:
        try:
            printed = run_shell(code, root, {"PATH": path}, limit_s=2 * PATIENCE_S, before=network)
            yield DocumentedStack(root, path, network, printed)
        finally:
            run_shell("chroma-voice down", root, {"PATH": path}, limit_s=2 * PATIENCE_S)
