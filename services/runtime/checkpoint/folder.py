"""The files of a checkpoint's folder. Nothing outside the folder is read, whatever its files say.

The files come from the network. Each is bounded in size and checked before it is used. Everything that is wrong with
one is a `CheckpointError` in one sentence.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from services.common.errors import CheckpointError

MAX_TEXT_BYTES = 256 * 1024 * 1024
"""Largest JSON or text file. The published tokenizer.json has 11 MB."""


def file_in(folder: Path, name: str) -> Path:
    """The place of the file `name` of a folder. The file may be missing.

    A link may lead to another file of the folder or, in the cache of the hub, to its folder of blobs. Raises
    `CheckpointError` for a name with a path and for a link that leads elsewhere.
    """
    if not name or name in (".", "..") or any(character in name for character in "/\\\0"):
        raise CheckpointError(f"{folder}: expected the name of a file in this folder, found {name[:200]!r}")
    roots = [folder.resolve()]
    if folder.parent.name == "snapshots":
        roots.append(folder.parent.parent.resolve() / "blobs")
    try:
        place = (folder / name).resolve()
    except (OSError, RuntimeError, ValueError) as error:
        raise CheckpointError(f"{folder / name}: cannot be found: {error}") from error
    if not any(place.is_relative_to(root) for root in roots):
        raise CheckpointError(f"{folder / name}: expected a file of this folder, found a link that leads out of it")
    return folder / name


def has_file(folder: Path, name: str) -> bool:
    """Whether the folder has a file of this name. Raises `CheckpointError` as `file_in` does."""
    return file_in(folder, name).exists()


def read_text(folder: Path, name: str) -> str:
    """The content of a text file. Raises `CheckpointError` when it is missing, too large or not UTF-8."""
    path = file_in(folder, name)
    try:
        size_bytes = path.stat().st_size
        if size_bytes > MAX_TEXT_BYTES:
            raise CheckpointError(f"{path}: expected at most {MAX_TEXT_BYTES} bytes, found {size_bytes}")
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: missing") from error
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: cannot be read as text: {error}") from error


def read_json(folder: Path, name: str) -> dict[str, Any]:
    """The JSON object in a file. Raises `CheckpointError` as `read_text` does, and for anything but an object."""
    return parse_object(read_text(folder, name), str(folder / name))


def parse_object(text: str | bytes, where: str) -> dict[str, Any]:
    """The JSON object in `text`. Raises `CheckpointError`, which names `where`."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{where}: not JSON: {str(error)[:200]}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{where}: expected a JSON object, found {type(content).__name__}")
    return content
