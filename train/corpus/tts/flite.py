"""The flite program and its voices: an installed flite, or the Debian package unpacked into a folder without root.

Its voices (slt, rms, awb: CMU Arctic speakers; kal16: a diphone voice) are free under CMU's BSD-like licence.
A shift makes another voice: it plays the sound faster or slower, which moves pitch and formants together.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile as sf

from train.audio.sound import Sound, shifted


class Flite:
    """The flite program."""

    def __init__(self, program: str, library_path: str | None = None) -> None:
        self._program = program
        self._environment = (
            dict(os.environ) if library_path is None else {**os.environ, "LD_LIBRARY_PATH": library_path}
        )

    def voice(self, name: str, speaker: str, shift: float) -> FliteVoice:
        """flite's voice `speaker` with pitch and formants moved by the factor `shift`, under the name `name`."""
        return FliteVoice(name, speaker, shift, self)

    def say(self, text: str, speaker: str, stretch: float) -> Sound:
        """Speak a text, `stretch` times slower than usual. Raises `RuntimeError` with flite's message."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "speech.wav"
            command = [self._program, "-voice", speaker, "--setf", f"duration_stretch={stretch:.3f}", "-t", text]
            done = subprocess.run(
                [*command, "-o", str(path)], env=self._environment, capture_output=True, text=True, check=False
            )
            if done.returncode != 0 or not path.exists():
                raise RuntimeError(f"flite failed ({done.returncode}): {done.stderr.strip()}")
            samples, sample_rate_hz = sf.read(path, dtype="float32")
        return Sound(np.asarray(samples, dtype=np.float32), sample_rate_hz)


@dataclass(frozen=True)
class FliteVoice:
    """One of flite's voices at one shift."""

    name: str
    speaker: str
    shift: float
    engine: Flite

    def say(self, text: str, speed: float) -> Sound:
        """Speak at `speed` times the voice's usual rate."""
        return shifted(self.engine.say(text, self.speaker, self.shift / speed), self.shift)


def find_flite(folder: Path) -> Flite | None:
    """flite on PATH, or Debian's flite unpacked into `folder`; None on a machine with neither flite nor apt."""
    installed = shutil.which("flite")
    if installed is not None:
        return Flite(installed)
    program = folder / "usr/bin/flite"
    if not program.exists() and not _unpack(folder):
        return None
    libraries = ":".join(str(path) for path in sorted(folder.glob("usr/lib/*-linux-gnu")))
    return Flite(str(program), libraries)


def _unpack(folder: Path) -> bool:
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        return False
    # A simulated installation lists flite and the missing libraries.
    install = ["apt-get", "install", "--simulate", "--no-install-recommends", "flite"]
    plan = subprocess.run(install, capture_output=True, text=True, check=False)
    packages = [line.split()[1] for line in plan.stdout.splitlines() if line.startswith("Inst ")]
    if plan.returncode != 0 or not packages:
        return False
    with tempfile.TemporaryDirectory() as archives:
        fetch = ["apt-get", "download", "--quiet", "--quiet", *packages]
        if subprocess.run(fetch, cwd=archives, check=False).returncode != 0:
            return False
        folder.mkdir(parents=True, exist_ok=True)
        for archive in sorted(Path(archives).glob("*.deb")):
            subprocess.run(["dpkg-deb", "--extract", str(archive), str(folder)], check=True)
    return True
