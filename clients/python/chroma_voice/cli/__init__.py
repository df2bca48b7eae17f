"""The `chroma-voice` command."""

from __future__ import annotations

import sys
from typing import Annotated, NoReturn

import typer
from rich.console import Console

from chroma_voice import __version__
from chroma_voice.cli import audit, key, trace, voice
from chroma_voice.cli.conversation import chat, talk
from chroma_voice.cli.evaluation.evaluate import evaluate
from chroma_voice.cli.launcher import serve, up
from chroma_voice.cli.load.bench import bench
from chroma_voice.errors import ChromaError

UsageError: type[Exception] = typer.BadParameter.__bases__[0]
"""The error of a wrong command line. typer has no public name for it."""

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Spoken conversations with FlashLabs Chroma 1.0: run it, enrol voices, talk to it.",
)
app.command()(up.up)
app.command()(up.down)
app.command()(talk.talk)
app.command()(chat.chat)
app.command()(trace.trace)
app.command()(bench)
app.command("eval")(evaluate)
app.add_typer(voice.app, name="voice")
app.add_typer(key.app, name="key")
app.add_typer(audit.app, name="audit")
app.command()(serve.serve)
app.command(context_settings=serve.PASS_THROUGH)(serve.checkpoint)


def _print_version(is_asked: bool) -> None:
    if is_asked:
        typer.echo(f"chroma-voice {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    """Take the options before the name of a command."""


def main() -> None:
    """Run the command line. An error is printed as one line. The exit status is 1 then, and 2 for wrong usage."""
    try:
        sys.exit(app(prog_name="chroma-voice", standalone_mode=False))
    except typer.Abort:
        sys.exit(130)
    except UsageError as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            typer.echo(error, err=True)
            sys.exit(2)
        _fail(f"error: {error.format_message()}", 2)  # pyright: ignore[reportAttributeAccessIssue]
    except ChromaError as error:
        _fail(f"error ({error.status}): {error.message}")
    except BrokenPipeError:
        sys.stdout = None  # the reader of our output has ended: nothing is left to flush
        sys.exit(1)
    except OSError as error:
        what = f"{error.filename}: {error.strerror}" if error.filename and error.strerror else str(error)
        _fail(f"error: {what}")


def _fail(line: str, status: int = 1) -> NoReturn:
    Console(stderr=True, highlight=False, soft_wrap=True, emoji=False).print(" ".join(line.split()), markup=False)
    sys.exit(status)
