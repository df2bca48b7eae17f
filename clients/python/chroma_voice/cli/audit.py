"""`chroma-voice audit`: checks an audit log."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated

import typer

from chroma_voice.errors import FailedPrecondition

app = typer.Typer(no_args_is_help=True, help="Check the audit log of a gateway.")


@app.callback()
def audit() -> None:
    """Keep `verify` a command of its own: a lone command would take the place of the group."""


@app.command()
def verify(
    files: Annotated[
        list[Path],
        typer.Argument(exists=True, dir_okay=False, help="The log; with rotated files, all of them, the oldest first."),
    ],
) -> None:
    """Check that no line was changed or removed: each names the SHA-256 of the line before.

    Lines that are missing at the beginning and at the end cannot be noticed.
    """
    before, count = "", 0
    for file in files:
        with file.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                try:
                    previous = json.loads(line)["previous"]
                except (ValueError, KeyError, TypeError):
                    raise FailedPrecondition(f"{file}, line {number}: not a line of an audit log") from None
                if before and previous != before:
                    raise FailedPrecondition(f"{file}, line {number}: a line before it was changed or removed")
                before, count = hashlib.sha256(line.rstrip(b"\n")).hexdigest(), count + 1
    typer.echo(f"{count} lines, none was changed or removed in between")
