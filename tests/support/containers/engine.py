"""podman with storage, networks and a configuration of its own in one folder."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support.containers.namespaces import Namespaces
from tests.support.debian_packages import unpacked
from tests.support.paths import ROOT

_PACKAGES = (
    "podman",
    "runc",
    "conmon",
    "catatonit",
    "netavark",
    "aardvark-dns",
    "iptables",
    "golang-github-containers-common",
    "debootstrap",
    "wget",
)
_WITHOUT_RLIMITS = Path(__file__).with_name("runc_without_rlimits.py")
_CAP_SYS_RESOURCE = 24
_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
LIMIT_S = 1800.0
"""The longest that one command of the engine may take."""
TIMED_OUT = 124
"""The exit status of a command that did not end within its limit, as of timeout(1)."""
_PROBE_S = 120.0
_OF_ENGINES = re.compile("/(libpod_parent|buildah-|docker)")


class Engine:
    """podman from Debian's packages, run as root in namespaces of its own. What it keeps lies in `folder`."""

    def __init__(self, folder: Path) -> None:
        """Skips the test where the engine cannot be fetched, or where it gets no namespaces."""
        self.folder = folder
        self.programs = unpacked("containers", *_PACKAGES, dependencies=True)
        library = self.programs / "usr" / "lib" / f"{os.uname().machine}-linux-gnu"
        programs = folder / "bin"
        for name in ("bin", "home/.config/containers", "tmp", "networks"):
            (folder / name).mkdir(parents=True)
        # Debian's alternatives, which a package's installation would set.
        for name in ("iptables", "ip6tables"):
            (programs / name).symlink_to(self.programs / "usr" / "sbin" / f"{name}-nft")
        shutil.copy(self.programs / "etc/containers/policy.json", folder / "home/.config/containers/policy.json")
        path = [programs, self.programs / "usr/bin", self.programs / "usr/sbin"]
        self.environment = {
            "PATH": ":".join([*map(str, path), _SYSTEM_PATH]),
            "LD_LIBRARY_PATH": str(library),
            "XTABLES_LIBDIR": str(library / "xtables"),
            "HOME": str(folder / "home"),
            "TMPDIR": str(folder / "tmp"),
            "CONTAINERS_CONF": str(folder / "containers.conf"),
            "CONTAINERS_STORAGE_CONF": str(folder / "storage.conf"),
            "CONTAINERS_REGISTRIES_CONF": str(folder / "registries.conf"),
        }
        self.runtime = programs / "runtime"
        """The program that runs containers."""
        self._configure()
        self._cgroups = _cgroups()
        self.namespaces = Namespaces(self.programs / "usr" / "bin" / "catatonit", folder)

    def _configure(self) -> None:
        folder, programs = self.folder, self.programs
        # podman starts the runtime and conmon without the environment that they need here, and conmon, at a container's
        # end, podman.
        runtime = self.runtime
        exports = "".join(f"export {name}='{value}'\n" for name, value in self.environment.items())
        real = "runc" if _may_raise_limits() else _WITHOUT_RLIMITS
        runtime.write_text(f'#!/bin/sh\n{exports}exec {real} "$@"\n')
        runtime.chmod(0o755)
        passed_on = json.dumps([f"{name}={value}" for name, value in self.environment.items()])
        (folder / "containers.conf").write_text(f"""
[engine]
runtime = "{runtime.name}"
cgroup_manager = "cgroupfs"
events_logger = "file"
lock_type = "file"
conmon_path = ["{programs}/usr/bin/conmon"]
conmon_env_vars = {passed_on}
helper_binaries_dir = ["{programs}/usr/lib/podman", "{programs}/usr/libexec/podman"]
init_path = "{programs}/usr/libexec/podman/catatonit"
network_cmd_path = ""
tmp_dir = "/run/engine"
volume_path = "{folder}/volumes"
image_copy_tmp_dir = "{folder}/tmp"
[engine.runtimes]
"{runtime.name}" = ["{runtime}"]
[containers]
init_path = "{programs}/usr/libexec/podman/catatonit"
[network]
network_backend = "netavark"
network_config_dir = "{folder}/networks"
""")
        (folder / "storage.conf").write_text(f"""
[storage]
driver = "overlay"
graphroot = "{folder}/storage"
runroot = "/run/storage"
""")
        (folder / "registries.conf").write_text('unqualified-search-registries = ["docker.io"]\n')

    def run(
        self,
        *arguments: str | Path,
        check: bool = True,
        limit_s: float = LIMIT_S,
        online: bool = False,
    ) -> subprocess.CompletedProcess[str]:
        """Run `podman ARGUMENTS` and wait for its end. Fails the test when it fails, unless `check` is false."""
        return self.command("podman", *arguments, check=check, limit_s=limit_s, online=online)

    def command(
        self,
        program: str | Path,
        *arguments: str | Path,
        check: bool = True,
        limit_s: float = LIMIT_S,
        online: bool = False,
        environment: Mapping[str, str] | None = None,
        directory: Path = ROOT,
    ) -> subprocess.CompletedProcess[str]:
        """Run a program in the engine's namespaces and environment and in `directory`, as `run` does.

        With `online` it has this machine's network. A command that does not end in time has the status `TIMED_OUT`.
        """
        words = [str(program), *map(str, arguments)]
        try:
            done = subprocess.run(
                [*self.namespaces.entering(online=online), "env", "-C", directory, *words],
                env={**self.environment, **(environment or {})},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=limit_s,
            )
        except subprocess.TimeoutExpired:
            done = subprocess.CompletedProcess(words, TIMED_OUT, "", f"no end within {limit_s:.0f} s")
        if check:
            output = f"{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
            assert done.returncode == 0, f"{' '.join(words)}\n{output}"
        return done

    def skip_unless_it_runs(self) -> None:
        """Build and run a small container as the tests do. Skips the test with the reason where that is impossible."""
        folder = self.folder / "probe"
        folder.mkdir()
        shutil.copy(self.programs / "usr" / "bin" / "catatonit", folder / "program")
        (folder / "Dockerfile").write_text('FROM scratch\nCOPY program /\nRUN ["/program", "--version"]\n')
        image, network = "localhost/probe", "probe"
        # --version comes first: catatonit runs what follows otherwise.
        options = ("--rm", "--init", "--read-only", "--cap-drop", "all", "--user", "10001:10001", "--tmpfs", "/tmp")
        steps = (
            ("info",),
            ("build", "--network", "none", "--pull=never", "--tag", image, folder),
            ("network", "create", network),
            ("run", *options, "--network", network, "--publish", "127.0.0.1::1", image, "/program", "--version"),
        )
        for step in steps:
            done = self.run(*step, check=False, limit_s=_PROBE_S)
            if done.returncode != 0:
                lines = (done.stdout + done.stderr).strip().splitlines() or ["no output"]
                pytest.skip(f"no container engine can run here: podman {step[0]}: {lines[-1]}")
        self.run("rmi", "--force", image)
        self.run("network", "rm", network)

    def inspect(self, kind: str, name: str) -> dict[str, Any]:
        """What the engine knows about an object: `kind` is image, container, network or volume."""
        return json.loads(self.run(kind, "inspect", name).stdout)[0]

    def names(self, *arguments: str) -> list[str]:
        """The lines of a listing, such as `names("ps", "--format", "{{.Names}}")`."""
        return self.run(*arguments).stdout.split()

    def processes(self) -> list[str]:
        """The command lines of all processes of the engine and of its containers."""
        return self.namespaces.commands()

    def mounts(self) -> list[str]:
        """Where something is mounted for containers."""
        parts = (f"{self.folder}/", "/run/engine/", "/run/storage/", "/run/netns/")
        return [point for point in self.namespaces.mounts() if point.startswith(parts)]

    def close(self) -> None:
        """End every process of the engine and of its containers. What lies in the engine's folder stays."""
        self.namespaces.close()
        for folder in sorted(_cgroups() - self._cgroups, reverse=True):
            with contextlib.suppress(OSError):  # another engine uses it
                folder.rmdir()


def _may_raise_limits() -> bool:
    status = Path("/proc/self/status").read_text()
    (effective,) = [int(line.split()[1], 16) for line in status.splitlines() if line.startswith("CapEff:")]
    return bool(effective >> _CAP_SYS_RESOURCE & 1)


def left_over() -> set[str]:
    """What container engines leave on a machine outside of their own folders."""
    places = ("run/netns/*", "run/runc/*", "run/containers/**/*", "run/libpod", "var/lib/containers/*", "etc/cni")
    interfaces = ("sys/class/net/podman*",)
    forwarding = Path("/proc/sys/net/ipv4/ip_forward").read_text()
    found = {str(path) for pattern in (*places, *interfaces) for path in Path("/").glob(pattern)}
    return {*found, f"forwarding: {forwarding}"}


def _cgroups() -> set[Path]:
    """The control groups of containers and builds."""
    root = Path("/sys/fs/cgroup")
    return {path for level in ("*", "*/*", "*/*/*") for path in root.glob(level) if _OF_ENGINES.search(str(path))}
