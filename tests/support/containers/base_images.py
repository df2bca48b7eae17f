"""The images that ours stand on, from a registry or, where none is reachable, made of Debian's packages."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from tests.support.containers.engine import Engine
from tests.support.debian_packages import mirror, unpacked
from tests.support.manifests import DEPLOY

RELEASE = "bookworm"
"""Debian 12, whose Python is 3.11 as in the locks."""
_PYTHON = ("python3", "python3-venv", "python-is-python3", "ca-certificates")
_VALKEY = ("valkey-server", "valkey-tools", "libjemalloc2", "liblzf1", "libatomic1")
_NOT_IN_SLIM = ("doc", "info", "locale", "man")
_PULL_S = 60.0
_VALKEY_IMAGE = """
FROM localhost/debian-python
COPY usr /usr
RUN ldconfig && useradd --system --uid 999 --user-group valkey && install --directory --owner=valkey /data
"""


def python_image(engine: Engine) -> str:
    """The name of a base image with Python 3.11. Skips the test without a registry and without a Debian mirror."""
    named = re.search(r"^ARG PYTHON_IMAGE=(\S+)", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)
    assert named is not None
    return named[1] if _pulled(engine, named[1]) else _bootstrapped(engine)


def valkey_image(engine: Engine) -> str:
    """The name of an image with Valkey, which has the user and the folder of the published one."""
    named: str = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]["valkey"]["image"]
    if _pulled(engine, named):
        return named
    _bootstrapped(engine)
    programs = unpacked("valkey", *_VALKEY, backports=True)
    containerfile = engine.folder / "Valkeyfile"
    containerfile.write_text(_VALKEY_IMAGE)
    name = "localhost/debian-valkey"
    engine.run("build", "--pull=never", "--network", "none", "-f", containerfile, "-t", name, programs)
    return name


def _pulled(engine: Engine, name: str) -> bool:
    """Whether the image is there, or comes from its registry."""
    if engine.run("image", "exists", name, check=False).returncode == 0:
        return True
    return engine.run("pull", "--quiet", name, check=False, limit_s=_PULL_S, online=True).returncode == 0


def _bootstrapped(engine: Engine) -> str:
    """The name of an image of Debian 12 with its Python, made by debootstrap."""
    name = "localhost/debian-python"
    if engine.run("image", "exists", name, check=False).returncode == 0:
        return name
    root, archive = engine.folder / "debian", engine.folder / "debian.tar"
    script = engine.programs / "usr" / "sbin" / "debootstrap"
    options = ["--variant=minbase", f"--include={','.join(_PYTHON)}"]
    made = engine.command(
        "sh",
        script,
        *options,
        RELEASE,
        root,
        mirror(),
        check=False,
        online=True,
        environment={"DEBOOTSTRAP_DIR": str(engine.programs / "usr" / "share" / "debootstrap")},
    )
    if made.returncode != 0:
        pytest.skip(f"no registry can be reached, and debootstrap fails: {(made.stdout + made.stderr)[-500:]}")
    # As in Debian's slim images.
    without = ("./var/lib/apt/lists/*", "./var/cache/apt/*", *(f"./usr/share/{name}/*" for name in _NOT_IN_SLIM))
    engine.command("tar", *(f"--exclude={part}" for part in without), "-C", root, "-cf", archive, ".")
    engine.command("rm", "-rf", "--one-file-system", root)
    engine.run("import", archive, name)
    Path(archive).unlink()
    return name
