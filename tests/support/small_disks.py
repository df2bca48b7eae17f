"""Small disks in memory, which a test may fill or make read-only while processes use them."""

from __future__ import annotations

import errno
import subprocess
from collections.abc import Iterable
from pathlib import Path

DISK_BYTES = 8 << 20
_PIECE = bytes(4096)
_MAKE = """
set -e
for folder; do mount -t tmpfs -o size={size} tmpfs "$folder"; done
mount -o remount,ro,bind /
echo made
exec sleep infinity
"""


def refusal() -> str:
    """The reason why this machine has no namespaces for a user's own mounts. Empty: it has them."""
    tried = subprocess.run(["unshare", "-rm", "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True, text=True)
    return tried.stderr.strip()


class SmallDisks:
    """A mount namespace with one small disk for each folder. The root of the file system is read-only in it.

    Processes started with `launcher` before their command run in it. No privilege is needed: the kernel gives a user
    namespace to any user, unless the machine's administrator forbids it.
    """

    def __init__(self, folders: Iterable[Path]) -> None:
        """Makes the folders and mounts a disk on each. A process holds the namespace until `close`."""
        paths = [str(folder) for folder in folders]
        for path in paths:
            Path(path).mkdir(parents=True)
        self._holder = subprocess.Popen(
            ["unshare", "-rm", "sh", "-c", _MAKE.format(size=DISK_BYTES), "sh", *paths], stdout=subprocess.PIPE
        )
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == b"made\n", "the disks are mounted"
        self.launcher = [
            "nsenter",
            f"--target={self._holder.pid}",
            "--user",
            "--mount",
            "--preserve-credentials",
            f"--wd={Path.cwd()}",
            "--",
        ]

    def inside(self, path: Path) -> Path:
        """The path at which this process sees a file of the namespace."""
        return Path(f"/proc/{self._holder.pid}/root{path}")

    def fill(self, folder: Path) -> None:
        """Write until the disk has no byte left."""
        with self._filler(folder).open("wb", buffering=0) as file:
            while True:
                try:
                    file.write(_PIECE)
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    return

    def empty(self, folder: Path) -> None:
        """Take back what `fill` wrote."""
        self._filler(folder).unlink()

    def make_read_only(self, folder: Path) -> None:
        """Refuse writes from now on. No file of the disk may be open for writing."""
        self._remount("ro", folder)

    def make_writable(self, folder: Path) -> None:
        """Take writes again."""
        self._remount("rw", folder)

    def close(self) -> None:
        """End the process that holds the namespace."""
        self._holder.kill()
        self._holder.communicate()

    def _filler(self, folder: Path) -> Path:
        return self.inside(folder) / "filler"

    def _remount(self, how: str, folder: Path) -> None:
        subprocess.run([*self.launcher, "mount", "-o", f"remount,{how}", str(folder)], check=True)
