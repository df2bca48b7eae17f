"""Fetch the wheels of the images into a folder, with the pip configuration of this machine.

    python wheels.py FOLDER VARIANT [options of pip]

Every wheel has the hash of its lock in deploy/requirements. An image build that finds them in deploy/wheels needs no
package index. VARIANT is the build of torch, cpu or cu130. The CPU build of torch is on an index of its own: the
options lead to it, and count for torch alone, when this machine's configuration does not lead to it already.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from lock import PLATFORMS

_LOCKS = Path(__file__).parents[1] / "requirements"


def main(folder: Path, variant: str, torch_options: list[str]) -> None:
    """Fetch what is not there yet. Raises CalledProcessError when a wheel cannot be had or has another hash."""
    for lock in ("build", "gateway", "model"):
        _download(_LOCKS / f"{lock}.txt", folder)
    torch = _LOCKS / f"torch-{variant}.txt"
    try:
        _download(torch, folder)
    except subprocess.CalledProcessError:
        _download(torch, folder, *torch_options)


def _download(lock: Path, folder: Path, *options: str) -> None:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
    command += ["--only-binary", ":all:", "--python-version", "3.11", "--find-links", str(folder)]
    command += [word for platform in PLATFORMS for word in ("--platform", platform)]
    command += ["--dest", str(folder), "-r", str(lock)]
    # pip would ask the index about every package, also about those whose wheel is there.
    if subprocess.run([*command, "--no-index"], stderr=subprocess.DEVNULL).returncode != 0:
        subprocess.run([*command, *options], check=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3:])
