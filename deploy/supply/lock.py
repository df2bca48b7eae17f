"""A list of versions as a lock: each package with the hash of the one file that an image installs.

    uv pip compile ... | python lock.py LOCK [options of pip]

pip asks the index which file it would install on linux/amd64 with Python 3.11, without fetching it.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

PLATFORMS = [f"manylinux_2_{minor}_x86_64" for minor in range(28, 4, -1)]
PLATFORMS += ["manylinux2014_x86_64", "manylinux2010_x86_64", "manylinux1_x86_64", "linux_x86_64"]


def main(lock: Path, requirements: list[str], options: list[str]) -> None:
    """Write the lock of `requirements`, each `name==version`."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed", "--no-deps"]
        command += ["--only-binary", ":all:", "--python-version", "3.11", "--target", folder, "--report", str(report)]
        command += [word for platform in PLATFORMS for word in ("--platform", platform)]
        subprocess.run([*command, *options, *requirements], check=True)
        found = json.loads(report.read_text(encoding="utf-8"))["install"]
    hashes = {
        _canonical(it["metadata"]["name"]): it["download_info"]["archive_info"]["hashes"]["sha256"] for it in found
    }
    blocks = []
    for requirement in requirements:
        name = _canonical(requirement.partition("==")[0].partition("[")[0])
        blocks.append(f"{requirement} \\\n    --hash=sha256:{hashes[name]}\n")
    lock.write_text("".join(blocks), encoding="utf-8")


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.stdin.read().split(), sys.argv[2:])
