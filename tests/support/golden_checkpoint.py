"""The tiny checkpoint of a golden folder as a folder that a service can open.

The repository keeps its shards and their index compressed (`FILE.xz`). They are unpacked once into `build/`, which git
ignores.
"""

from __future__ import annotations

import hashlib
import lzma
import shutil
import tempfile
from functools import cache
from pathlib import Path

from tests.support.paths import PUBLIC_GOLDEN, ROOT

UNPACKED = ROOT / "build" / "golden"


@cache
def golden_checkpoint(golden: Path = PUBLIC_GOLDEN, unpacked: Path = UNPACKED) -> Path:
    """The folder of a golden folder's checkpoint, with plain shards. It is shared by all tests: they only read it.

    A checkpoint without compressed shards is returned as it lies. Raises FileNotFoundError.
    """
    packed = golden / "checkpoint"
    files = sorted(path for path in packed.iterdir() if path.is_file())
    if not any(path.suffix == ".xz" for path in files):
        return packed
    digest = hashlib.sha256(b"".join(path.name.encode() + path.read_bytes() for path in files)).hexdigest()[:16]
    folder = unpacked / digest / "checkpoint"
    if not folder.exists():
        _unpack(files, folder)
    return folder


def _unpack(files: list[Path], folder: Path) -> None:
    """Write the files to `folder`, which appears complete or not at all: several test processes may do this at once."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        half = Path(temporary) / "checkpoint"
        half.mkdir()
        for path in files:
            if path.suffix == ".xz":
                (half / path.stem).write_bytes(lzma.decompress(path.read_bytes()))
            else:
                shutil.copy(path, half)
        try:
            half.rename(folder)
        except OSError:
            if not folder.exists():
                raise
