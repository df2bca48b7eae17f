"""The memory that the weights of the services need, compared with the memory of their devices."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from chroma_voice.errors import FailedPrecondition
from chroma_voice.local.weights import Weights

_MEMINFO = Path("/proc/meminfo")
_CONTAINER_LIMIT = Path("/sys/fs/cgroup/memory.max")
_NVIDIA_SMI_TIMEOUT_S = 10.0

LAUNCHER_WAYS_OUT = "--weights int8 or int4, --dtype bfloat16, another --device, or a smaller checkpoint"
"""What would work, in the words of `chroma-voice up`."""


@dataclass(frozen=True)
class Memory:
    """Memory of a device in bytes: the free part, and the total."""

    free_bytes: int
    total_bytes: int


def describe(
    needed: Mapping[str, Weights], devices: Mapping[str, str], *, ways_out: str = LAUNCHER_WAYS_OUT
) -> Iterator[str]:
    """Yield lines for the user: the weights of each service, the memory of each device, a warning if it is too small.

    `needed` and `devices` map a service to its weights and to its torch device. Raises `FailedPrecondition`, which
    names `ways_out`, when the weights cannot fit: more than all memory of this machine, or more than the free memory
    of a GPU.
    """
    sizes = ", ".join(f"{name} {in_words(part.size_bytes)} in {part}" for name, part in needed.items())
    yield f"weights: {sizes}; KV caches and working memory come on top"
    for device in dict.fromkeys(devices.values()):
        memory = read_memory(device)
        if memory is None:
            continue
        need_bytes = sum(part.size_bytes for name, part in needed.items() if devices[name] == device)
        has = f"{device} has {in_words(memory.free_bytes)} free of {in_words(memory.total_bytes)}"
        if need_bytes > (memory.total_bytes if device.startswith("cpu") else memory.free_bytes):
            raise FailedPrecondition(f"the weights do not fit: {sizes}; {has}. Ways out: {ways_out}")
        yield f"memory: {has}"
        if need_bytes > memory.free_bytes:
            yield "warning: the weights need more than is free. Expect swapping, or that the system ends a service"


def in_words(size_bytes: int) -> str:
    """Return a size as text, in units of 10^9 or 10^6 bytes."""
    return f"{size_bytes / 1e9:.1f} GB" if size_bytes >= 1e9 else f"{size_bytes / 1e6:.1f} MB"


def read_memory(device: str) -> Memory | None:
    """Return the memory of a torch device; None when the system does not report it."""
    kind, _, index = device.partition(":")
    if kind == "cpu":
        return _machine()
    return _nvidia(index or "0") if kind == "cuda" else None


def _machine() -> Memory | None:
    try:
        fields = dict(line.split(":", 1) for line in _MEMINFO.read_text().splitlines())
        free_bytes, total_bytes = (int(fields[name].split()[0]) * 1024 for name in ("MemAvailable", "MemTotal"))
    except (OSError, KeyError, ValueError):
        return None
    with contextlib.suppress(OSError, ValueError):  # no container, or a limit of "max"
        total_bytes = min(total_bytes, int(_CONTAINER_LIMIT.read_text()))
    return Memory(min(free_bytes, total_bytes), total_bytes)


def _nvidia(index: str) -> Memory | None:
    command = ["nvidia-smi", f"--id={index}", "--query-gpu=memory.free,memory.total", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_NVIDIA_SMI_TIMEOUT_S, check=True)
        free_mebibytes, total_mebibytes = (int(value) for value in done.stdout.split(","))
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    return Memory(free_mebibytes * 2**20, total_mebibytes * 2**20)
