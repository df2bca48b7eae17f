"""The `chroma-voice` command."""

from __future__ import annotations

import sys
from typing import NoReturn

import typer
from rich.console import Console

from chroma_voice.cli import audit, key, serve, talk, trace, up, voice
from chroma_voice.errors import ChromaError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Spoken conversations with FlashLabs Chroma 1.0: run it, enrol voices, talk to it.",
)
app.command()(up.up)
app.command()(up.down)
app.command()(talk.talk)
app.command()(trace.trace)
app.add_typer(voice.app, name="voice")
app.add_typer(key.app, name="key")
app.add_typer(audit.app, name="audit")
app.command()(serve.serve)
app.command(context_settings=serve.PASS_THROUGH)(serve.checkpoint)


def main() -> None:
    """Run the command line. An error is printed as one line. The exit status is 1 then, and 2 for wrong usage."""
    try:
        app()
    except ChromaError as error:
        _fail(f"error ({error.status}): {error.message}")
    except OSError as error:
        _fail(f"error: {error}")


def _fail(line: str) -> NoReturn:
    Console(stderr=True, highlight=False, soft_wrap=True).print(line, markup=False)
    sys.exit(1)
