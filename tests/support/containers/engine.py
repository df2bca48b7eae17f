"""podman with storage, networks and a configuration of its own in one folder."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support.debian_packages import unpacked

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
LIMIT_S = 900.0
"""The longest that one command of the engine may take."""


class Engine:
    """podman from Debian's packages, run as root. All that it writes lies in `folder`."""

    def __init__(self, folder: Path) -> None:
        """Skips the test where no engine can run."""
        if os.geteuid() != 0:
            pytest.skip("containers are run as root: this is another user")
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
        self._configure()
        known = self.run("info", "--format", "json", check=False)
        if known.returncode != 0:
            pytest.skip(f"podman does not run here: {known.stderr.strip()}")

    def _configure(self) -> None:
        folder, programs = self.folder, self.programs
        # podman starts the runtime and conmon without the environment that they need here, and conmon, at a container's
        # end, podman.
        runtime = folder / "bin" / "runtime"
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
static_dir = "{folder}/static"
tmp_dir = "{folder}/run"
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
runroot = "{folder}/run-storage"
""")
        (folder / "registries.conf").write_text('unqualified-search-registries = ["docker.io"]\n')

    def run(
        self,
        *arguments: str | Path,
        check: bool = True,
        limit_s: float = LIMIT_S,
        environment: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run `podman ARGUMENTS` and wait for its end. Fails the test when it fails, unless `check` is false."""
        return self.command("podman", *arguments, check=check, limit_s=limit_s, environment=environment)

    def command(
        self,
        program: str | Path,
        *arguments: str | Path,
        check: bool = True,
        limit_s: float = LIMIT_S,
        environment: Mapping[str, str] | None = None,
        directory: Path | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a program in the engine's environment and in `directory`, as `run` does."""
        done = subprocess.run(
            [shutil.which(str(program), path=self.environment["PATH"]) or str(program), *map(str, arguments)],
            env={**self.environment, **(environment or {})},
            cwd=directory,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=limit_s,
        )
        if check:
            words = " ".join(map(str, [program, *arguments]))
            assert done.returncode == 0, f"{words}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
        return done

    def inspect(self, kind: str, name: str) -> dict[str, Any]:
        """What the engine knows about an object: `kind` is image, container, network or volume."""
        return json.loads(self.run(kind, "inspect", name).stdout)[0]

    def names(self, *arguments: str) -> list[str]:
        """The lines of a listing, such as `names("ps", "--format", "{{.Names}}")`."""
        return self.run(*arguments).stdout.split()

    def remove(self) -> None:
        """Remove everything that the engine has made, and its folder."""
        self.run("rm", "--all", "--force", "--time", "0", check=False)
        self.run("rmi", "--all", "--force", check=False)
        self.run("system", "prune", "--all", "--force", "--volumes", check=False)
        for mount in reversed(self.mounts()):
            subprocess.run(["umount", mount], check=False)
        shutil.rmtree(self.folder)

    def mounts(self) -> list[str]:
        """Where something is mounted below the engine's folder."""
        points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
        return [point for point in points if point.startswith(f"{self.folder}/")]

    def processes(self) -> list[str]:
        """The command lines of running processes that name the engine's folder."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:  # it has just ended
                continue
            if str(self.folder) in command:
                found.append(command)
        return found


def _may_raise_limits() -> bool:
    status = Path("/proc/self/status").read_text()
    (effective,) = [int(line.split()[1], 16) for line in status.splitlines() if line.startswith("CapEff:")]
    return bool(effective >> _CAP_SYS_RESOURCE & 1)


def left_over() -> set[str]:
    """What container engines leave on a machine outside of their own folders: interfaces, namespaces, storage."""
    interfaces = {path.name for path in Path("/sys/class/net").iterdir() if path.name.startswith(("podman", "veth"))}
    namespaces = {str(path) for path in Path("/run/netns").glob("*")}
    storage = {str(path) for path in (Path("/var/lib/containers"), Path("/etc/cni")) if path.exists()}
    return interfaces | namespaces | storage
