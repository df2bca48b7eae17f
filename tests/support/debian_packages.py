"""Programs of Debian's packages, unpacked into build/tools without root."""

from __future__ import annotations

import fcntl
import platform
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.paths import ROOT

TOOLS = ROOT / "build" / "tools"
_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


def unpacked(name: str, *packages: str, backports: bool = False) -> Path:
    """The folder build/tools/NAME with the files of these packages, which are fetched once.

    What a package depends on is not fetched unless it is named too. With `backports` a package is that of the release's
    backports, if it is there. Skips the test where there is no apt, or apt cannot fetch a package.
    """
    folder = TOOLS / name
    TOOLS.mkdir(parents=True, exist_ok=True)
    with open(TOOLS / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            _unpack(folder, packages, backports=backports)
    return folder


def _unpack(folder: Path, packages: tuple[str, ...], *, backports: bool) -> None:
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        pytest.skip(f"no apt-get and dpkg-deb: {folder.name} is taken from Debian's packages")
    part = folder.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)
    fetched_to = part / "fetched"
    fetched_to.mkdir(parents=True)
    options = _backports(part / "apt") if backports else []
    command = ["apt-get", *options, "download", *packages]
    fetched = subprocess.run(command, cwd=fetched_to, capture_output=True, text=True)
    if fetched.returncode != 0:
        pytest.skip(f"Debian's packages {' '.join(packages)} cannot be fetched: {fetched.stderr.strip()}")
    for package in fetched_to.glob("*.deb"):
        subprocess.run(["dpkg-deb", "-x", package, part], check=True)
    shutil.rmtree(fetched_to)
    shutil.rmtree(part / "apt", ignore_errors=True)
    part.rename(folder)


def _backports(folder: Path) -> list[str]:
    """Options of apt-get for this machine's mirror with the backports of its release, with lists of their own.

    Skips the test when the lists cannot be read.
    """
    release = platform.freedesktop_os_release()["VERSION_CODENAME"]
    columns = "$(REPO_URI) $(CODENAME)"
    found = subprocess.run(
        ["apt-get", "indextargets", "--format", columns, "Created-By: Packages"], capture_output=True, text=True
    )
    mirrors = [line.split()[0] for line in found.stdout.splitlines() if line.split()[1:] == [release]]
    if not mirrors:
        pytest.skip(f"apt knows no mirror of {release}")
    for name in ("lists/partial", "archives/partial"):
        (folder / name).mkdir(parents=True)
    sources = [f"deb [signed-by={_KEYRING}] {mirrors[0]} {suite} main\n" for suite in (release, f"{release}-backports")]
    (folder / "sources.list").write_text("".join(sources))
    options = [
        f"-oDir::Etc::sourcelist={folder / 'sources.list'}",
        "-oDir::Etc::sourceparts=-",
        f"-oDir::State::lists={folder / 'lists'}",
        f"-oDir::Cache={folder}",
        f"-oAPT::Default-Release={release}-backports",
    ]
    updated = subprocess.run(["apt-get", *options, "update"], capture_output=True, text=True)
    if updated.returncode != 0:
        pytest.skip(f"the lists of {release}-backports cannot be read: {updated.stderr.strip()}")
    return options
