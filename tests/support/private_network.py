"""A network of a test's own, in which the ports that the documents name are free."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

_NAMESPACES = (("--net",), ("--user", "--map-root-user", "--net"))
"""As root, and as any user."""
_HOLD = """
import fcntl, socket, struct, sys
with socket.socket() as any_socket:
    fcntl.ioctl(any_socket, 0x8914, struct.pack("16sh22x", b"lo", 1))  # SIOCSIFFLAGS, IFF_UP
print("ready", flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def private_network(*ports: int) -> Iterator[list[str]]:
    """The words before a command that runs in a network with nothing but a loopback interface.

    Where this user may not make one, there are no such words, and the commands use `ports` of this machine. Skips the
    test if one of them is taken.
    """
    for namespaces in _NAMESPACES:
        with _holder(*namespaces) as pid:
            if pid is not None:
                user = ("--user", "--preserve-credentials") if "--user" in namespaces else ()
                yield ["nsenter", f"--target={pid}", "--net", *user, "--"]
                return
    for port in ports:
        with socket.socket() as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                tried.bind(("", port))
            except OSError as error:
                pytest.skip(f"no network of its own for this test, and port {port} of this machine: {error}")
    yield []


@contextlib.contextmanager
def _holder(*namespaces: str) -> Iterator[int | None]:
    """The id of a process in the new namespaces, which ends afterwards. None: they cannot be made."""
    command = ["unshare", *namespaces, sys.executable, "-c", _HOLD]
    try:
        holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    except FileNotFoundError:
        yield None
        return
    with holder:
        assert holder.stdout is not None
        yield holder.pid if holder.stdout.readline() == b"ready\n" else None
        assert holder.stdin is not None
        holder.stdin.close()
