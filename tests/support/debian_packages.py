"""Programs of Debian's packages, unpacked into build/tools without root."""

from __future__ import annotations

import platform
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.tools import tool_folder

_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


def unpacked(name: str, *packages: str, backports: bool = False, dependencies: bool = False) -> Path:
    """The folder build/tools/NAME with the files of these packages, which are fetched once.

    With `dependencies` everything that they depend on and this machine lacks is fetched too. With `backports` a package
    is that of the release's backports, if it is there. Skips the test without apt, or when a package cannot be had.
    """
    with tool_folder(name) as folder:
        if not folder.exists():
            _unpack(folder, packages, backports=backports, dependencies=dependencies)
    return folder


def as_installed(folder: Path) -> tuple[str, ...]:
    """The words before a command, as of a new namespace of mounts, for which what is unpacked in `folder` lies in /usr.

    Skips the test where this user may not mount.
    """
    mount = f'mount -t overlay -o "lowerdir={folder}/usr:/usr" overlay /usr && exec "$@"'
    refusal = ""
    for user in ((), ("--user", "--map-root-user")):
        words = ("unshare", *user, "--mount", "sh", "-c", mount, "sh")
        tried = subprocess.run([*words, "true"], capture_output=True, text=True)
        if tried.returncode == 0:
            return words
        refusal = tried.stderr.strip()
    pytest.skip(f"Debian's packages in {folder} cannot be mounted: {refusal}")


def _unpack(folder: Path, packages: tuple[str, ...], *, backports: bool, dependencies: bool) -> None:
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        pytest.skip(f"no apt-get and dpkg-deb: {folder.name} is taken from Debian's packages")
    part = folder.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)
    fetched_to = part / "fetched"
    fetched_to.mkdir(parents=True)
    options = _own_lists(part / "apt", backports=backports) if backports or dependencies else []
    wanted = _with_dependencies(packages, options) if dependencies else packages
    command = ["apt-get", *options, "download", *wanted]
    fetched = subprocess.run(command, cwd=fetched_to, capture_output=True, text=True)
    if fetched.returncode != 0:
        pytest.skip(f"Debian's packages {' '.join(packages)} cannot be fetched: {fetched.stderr.strip()}")
    for package in fetched_to.glob("*.deb"):
        subprocess.run(["dpkg-deb", "-x", package, part], check=True)
    shutil.rmtree(fetched_to)
    shutil.rmtree(part / "apt", ignore_errors=True)
    part.rename(folder)


def _with_dependencies(packages: tuple[str, ...], options: list[str]) -> list[str]:
    """The packages that apt would install for these. Those of which this machine has another version are left out."""
    command = ["apt-get", *options, "--simulate", "--no-install-recommends", "install", *packages]
    planned = subprocess.run(command, capture_output=True, text=True)
    if planned.returncode != 0:
        pytest.skip(f"Debian's packages {' '.join(packages)} cannot be installed: {planned.stderr.strip()}")
    lines = [line.split() for line in planned.stdout.splitlines() if line.startswith("Inst ")]
    return [line[1] for line in lines if not line[2].startswith("[")]


def mirror() -> str:
    """The address from which apt takes this machine's release. Skips the test without apt, or where apt knows none."""
    if shutil.which("apt-get") is None:
        pytest.skip("no apt-get, which knows Debian's mirrors")
    release = platform.freedesktop_os_release().get("VERSION_CODENAME", "")
    columns = "$(REPO_URI) $(CODENAME)"
    found = subprocess.run(
        ["apt-get", "indextargets", "--format", columns, "Created-By: Packages"], capture_output=True, text=True
    )
    mirrors = [line.split()[0] for line in found.stdout.splitlines() if line.split()[1:] == [release]]
    if not mirrors:
        pytest.skip(f"apt knows no mirror of {release}")
    return mirrors[0]


def _own_lists(folder: Path, *, backports: bool) -> list[str]:
    """Options of apt-get for this machine's mirror, with lists of their own in `folder`.

    Skips the test when the lists cannot be read.
    """
    release = platform.freedesktop_os_release().get("VERSION_CODENAME", "")
    suites = [release, *([f"{release}-backports"] if backports else [])]
    for name in ("lists/partial", "archives/partial"):
        (folder / name).mkdir(parents=True)
    sources = [f"deb [signed-by={_KEYRING}] {mirror()} {suite} main\n" for suite in suites]
    (folder / "sources.list").write_text("".join(sources))
    options = [
        f"-oDir::Etc::sourcelist={folder / 'sources.list'}",
        "-oDir::Etc::sourceparts=-",
        f"-oDir::State::lists={folder / 'lists'}",
        f"-oDir::Cache={folder}",
        f"-oAPT::Default-Release={suites[-1]}",
        "-oAPT::Update::Error-Mode=any",
    ]
    updated = subprocess.run(["apt-get", *options, "update"], capture_output=True, text=True)
    if updated.returncode != 0:
        pytest.skip(f"the lists of {' and '.join(suites)} cannot be read: {updated.stderr.strip()}")
    return options
