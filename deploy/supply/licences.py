"""The licence of every package in an image, as a table: `make licences` writes docs/licences.md.

pip reads the metadata of each locked package from the index without fetching the package itself.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

_HEAD = """# Licences of what the images carry

`make licences` writes this page from the locked packages (`deploy/requirements`). An image also holds Python and the
Debian packages of its base image, whose licences are in `/usr/share/doc/*/copyright`. Each Python package keeps its
licence text in its `.dist-info` folder. No image holds a model: the published weights have terms of their own, which
the model hub shows before a download.

Three packages contain LGPL code, each as shared libraries that can be replaced: soundfile (libsndfile with LAME and
mpg123), soxr, and av (FFmpeg, LGPL version 3 or later by its own account). The wheel of av also carries libx264 and
libx265, which are under the GPL, version 2 or later, and to which its FFmpeg is linked: who passes the gateway image on
passes them on too, with the GPL's duties. The gateway uses no video encoder. The packages of CUDA are NVIDIA's, under
its own terms; only the CUDA variant has them.

| package | version | licence | images |
|---|---|---|---|
"""

_IMAGES = {"gateway.txt": "gateway", "model.txt": "model services", "torch-cpu.txt": "cpu", "torch-cu130.txt": "cu130"}
"""Each lock, and the images that install it."""


def main(locks: Path, page: Path) -> None:
    """Write the table of all packages that the locks name to `page`."""
    images: dict[str, list[str]] = {}
    for lock, image in _IMAGES.items():
        for requirement in re.findall(r"^([\w.-]+==[^\s\\;]+)", (locks / lock).read_text(), re.MULTILINE):
            images.setdefault(requirement, []).append(image)
    # The metadata of torch's CPU build is that of the build on PyPI.
    known = {name.lower(): data for name, data in _metadata([name for name in images if "+" not in name]).items()}
    rows = []
    for requirement, found_in in sorted(images.items(), key=lambda item: item[0].lower()):
        name, _, version = requirement.partition("==")
        data = known[name.lower().replace("_", "-")]
        rows.append(f"| {name} | {version} | {_licence(data)} | {', '.join(found_in)} |\n")
    page.write_text(_HEAD + "".join(rows), encoding="utf-8")


def _metadata(requirements: list[str]) -> dict[str, dict[str, Any]]:
    with tempfile.NamedTemporaryFile(suffix=".json") as report:
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed", "--no-deps"]
        subprocess.run([*command, "--only-binary", ":all:", "--report", report.name, *requirements], check=True)
        installs = json.loads(Path(report.name).read_text(encoding="utf-8"))["install"]
    return {found["metadata"]["name"].replace("_", "-"): found["metadata"] for found in installs}


def _licence(metadata: dict[str, Any]) -> str:
    """The SPDX expression of a package; before 2024 packages had a free text or a classifier instead."""
    if expression := metadata.get("license_expression"):
        return str(expression)
    classifiers = [
        name.rpartition(" :: ")[2] for name in metadata.get("classifier", []) if name.startswith("License ::")
    ]
    text = str(metadata.get("license") or "").strip()
    short = text if text and "\n" not in text and len(text) <= 40 else ""
    return ", ".join(classifiers) or short or "see its licence file"


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
