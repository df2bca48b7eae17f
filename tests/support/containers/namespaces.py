"""Namespaces in which a container engine changes nothing of this machine."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import socket
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

_CLONE_NEWNET = 0x40000000
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 0x1
_HOLDERS = (1, 2)
"""The ids, inside, of the init process and its child."""
# The engine keeps state in /run and /var/lib whatever its configuration says. A name server's address may lie in /run.
_SET_UP = """set -e
names=$(readlink -f /etc/resolv.conf)
cp "$names" "$1/resolv.conf"
mkdir "$1/var-lib" "$1/var-work"
mount -t overlay -o "lowerdir=/var/lib,upperdir=$1/var-lib,workdir=$1/var-work" overlay /var/lib
mount -t tmpfs tmpfs /run
case "$names" in /run/*) mkdir -p "$(dirname "$names")"; cp "$1/resolv.conf" "$names";; esac
echo ready
exec cat
"""


class Namespaces:
    """Namespaces of processes, mounts, networks and IPC, held by one process.

    When that ends, the kernel ends every process in them and removes their mounts and interfaces. It ends when this
    process does, however that happens.
    """

    def __init__(self, init: Path, folder: Path) -> None:
        """`init` becomes the first process; `folder` gets what is written to /var/lib. Skips without the rights."""
        options = ("--fork", "--kill-child", "--pid", "--mount", "--mount-proc", "--net", "--ipc")
        self._holder = subprocess.Popen(
            ["unshare", *options, init, "--", "sh", "-c", _SET_UP, "sh", folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._holder.stdout is not None
        assert self._holder.stderr is not None
        if self._holder.stdout.readline() != "ready\n":
            reason = self._holder.stderr.read().strip()
            self.close()
            pytest.skip(f"no namespaces for a container engine here: {reason}")
        pid = self._holder.pid
        self.first = int(Path(f"/proc/{pid}/task/{pid}/children").read_text())
        """The id, outside, of the first process in the namespaces."""
        try:
            with self.network():
                _up("lo")
        except PermissionError:
            self.close()
            pytest.skip("no network for containers here: this user may not set up one")

    def entering(self, *, online: bool = False) -> list[str]:
        """The words before a command that runs in the namespaces. With `online` it has this machine's network."""
        network = () if online else ("--net",)
        return ["nsenter", "--target", str(self.first), "--pid", "--mount", "--ipc", *network, "--"]

    @contextlib.contextmanager
    def network(self) -> Iterator[None]:
        """This thread, and the threads and processes that it starts, are in the network of the namespaces."""
        with open("/proc/thread-self/ns/net") as outside, open(f"/proc/{self.first}/ns/net") as inside:
            _enter(inside.fileno())
            try:
                yield
            finally:
                _enter(outside.fileno())

    @property
    def proc(self) -> Path:
        """/proc of the namespaces, as a path outside."""
        return Path(f"/proc/{self.first}/root/proc")

    def commands(self) -> list[str]:
        """The command lines of all processes in the namespaces, except for the two that hold them."""
        found = []
        for process in self.proc.glob("[0-9]*"):
            with contextlib.suppress(OSError):  # it has just ended
                if int(process.name) not in _HOLDERS:
                    found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        return found

    def mounts(self) -> list[str]:
        """Where something is mounted."""
        return [line.split()[4] for line in Path(f"/proc/{self.first}/mountinfo").read_text().splitlines()]

    def close(self) -> None:
        """End all processes in the namespaces, and wait for the end."""
        self._holder.communicate()


def _enter(network: int) -> None:
    if ctypes.CDLL(None, use_errno=True).setns(network, _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


def _up(interface: str) -> None:
    with socket.socket() as any_socket:
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sh22x", interface.encode(), _IFF_UP))
