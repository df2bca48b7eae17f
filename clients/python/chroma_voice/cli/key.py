"""`chroma-voice key`: commands for the API keys of a gateway, in a file that holds no key."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from chroma_voice.cli.listing import print_list
from chroma_voice.keys_file import SCOPES, KeysFile

app = typer.Typer(no_args_is_help=True, help="Make, list and revoke the API keys of a gateway.")
console = Console(highlight=False)
notes = Console(stderr=True, highlight=False, soft_wrap=True)

File = Annotated[
    Path,
    typer.Option(
        envvar="CHROMA_API_KEYS_FILE", dir_okay=False, help="The file of keys, which holds only their SHA-256."
    ),
]

DEFAULT_FILE = Path("keys.json")
_NEVER = "never"
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}


@app.command()
def new(
    key_id: Annotated[str, typer.Option("--id", help="Name of the key, for logs and for `revoke`.")],
    tenant: Annotated[str, typer.Option(help="Whose sessions and voices the key opens.")],
    scopes: Annotated[
        str, typer.Option(help=f"What the key allows, separated by commas: {', '.join(SCOPES)}.")
    ] = "talk,voices",
    expires: Annotated[str, typer.Option(help="How long the key is valid, such as 90d, 12h or 30m; or never.")] = "90d",
    file: File = DEFAULT_FILE,
) -> None:
    """Make a key, add its hash to the file, and print the key: the only time that it is shown.

    The key alone goes to standard output, and the rest to standard error.
    """
    until = _parse_expires(expires)
    key = KeysFile(file).add(key_id, tenant, [scope.strip() for scope in scopes.split(",")], until)
    typer.echo(key)
    ends = "has no end" if until is None else f"expires on {until:%Y-%m-%d %H:%M} UTC"
    notes.print(f"{file}: added the key {key_id} of tenant {tenant}, which {ends}.", markup=False)
    notes.print("Keep the key in a safe place now: the file holds only its hash.", markup=False)


@app.command("list")
def list_keys(file: File = DEFAULT_FILE) -> None:
    """List the keys of the file."""
    entries = KeysFile(file).entries()
    if not entries:
        console.print("no keys yet: `chroma-voice key new`")
        return
    rows = ((entry.id, entry.tenant, ", ".join(entry.scopes), _describe(entry.expires)) for entry in entries)
    print_list(("id", "tenant", "scopes", "expires"), rows)


@app.command()
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="Name of the key.")], file: File = DEFAULT_FILE
) -> None:
    """Remove a key from the file. A gateway refuses it as soon as it has read the file again."""
    KeysFile(file).remove(key_id)
    console.print(f"revoked the key {key_id}", markup=False)


def _parse_expires(text: str) -> datetime | None:
    if text == _NEVER:
        return None
    match = re.fullmatch(r"([1-9][0-9]{0,4})([mhd])", text)
    if match is None:
        raise typer.BadParameter(
            f"expected a time such as 90d, 12h or 30m, or never, got {text!r}", param_hint="--expires"
        )
    return datetime.now(UTC).replace(microsecond=0) + timedelta(**{_UNITS[match[2]]: int(match[1])})


def _describe(expires: datetime | None) -> str:
    if expires is None:
        return _NEVER
    over = " (over)" if expires <= datetime.now(UTC) else ""
    return f"{expires:%Y-%m-%d %H:%M}{over}"
