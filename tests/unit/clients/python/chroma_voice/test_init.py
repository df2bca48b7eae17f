from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

import pytest

from tests.support.paths import ROOT

CLIENT = ROOT / "clients" / "python"


@pytest.mark.slow
def test_the_client_package_installs_alone_and_imports_without_torch(tmp_path: Path) -> None:
    wheel = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), str(CLIENT)]
    subprocess.run(wheel, check=True, timeout=250)
    (built,) = tmp_path.glob("chroma_voice_client-*.whl")
    environment = tmp_path / "venv"
    venv.create(environment, with_pip=True)
    python = environment / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", built], check=True, timeout=250)
    check = (
        "import chroma.v1.dialogue_pb2, chroma_voice, chroma_voice.microphone, importlib.util, sys\n"
        "assert chroma_voice.SyncClient\n"
        "assert not {'torch', 'services', 'gateway'} & sys.modules.keys()\n"
        "assert importlib.util.find_spec('torch') is None\n"
    )
    subprocess.run([python, "-c", check], check=True, cwd=tmp_path, timeout=60)
