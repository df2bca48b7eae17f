"""The store of the Kubernetes manifests with the component `tls`: its own script, configuration, rights and probes, run
by Debian's Valkey in namespaces that stand for its container."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import trustme

from tests.support.debian_packages import unpacked
from tests.support.manifests import base_with, containers, of_kind

PASSWORD = "secret"
_PACKAGES = ("valkey-server", "valkey-tools", "libjemalloc2", "liblzf1", "libatomic1")
_LOOK_AGAIN = "sleep 60"
"""How the script waits between two looks at its certificate. A minute is too long for a test."""

_MAKE_ROOT = """
set -e
root=$1; shift
mount -t tmpfs tmpfs "$root"
cd "$root"
mkdir -p usr tmp data tls etc/valkey opt/valkey proc dev
for name in bin sbin lib lib64; do ln -s usr/$name $name; done
mount --rbind /usr usr
mount --rbind /dev dev
mount -t proc proc proc
for mounted in data tls etc/valkey opt/valkey; do mount --bind "$1" $mounted; shift; done
exec chroot . sh -c "$1"
"""
"""Makes the container's root: this machine's programs, the folders of the volumes, and nothing else."""


class ManifestValkey:
    """A store that keeps its data in `folder` from one start to the next. It listens on a port of this machine."""

    def __init__(self, folder: Path, port: int, authority: trustme.CA) -> None:
        """Skips the test where Debian's Valkey cannot be fetched."""
        manifests = base_with(("tls",))
        (workload,) = of_kind(manifests, "StatefulSet")
        (container,) = containers(workload)
        (certificate,) = [one for one in of_kind(manifests, "Certificate") if one["metadata"]["name"] == "valkey-tls"]
        pod = workload["spec"]["template"]["spec"]
        (name,) = [one["configMap"]["name"] for one in pod["volumes"] if "configMap" in one]
        (config,) = [one["data"] for one in of_kind(manifests, "ConfigMap") if one["metadata"]["name"] == name]
        self._program = unpacked("valkey", *_PACKAGES, backports=True)
        self._folders = [folder / name for name in ("data", "tls", "config")]
        self._root = folder / "root"
        for path in (self._root, *self._folders):
            path.mkdir(parents=True)
        for name, text in config.items():
            assert "6379" not in text or name == "tls.extra"
            (folder / "config" / name).write_text(text.replace("6379", str(port)))
        self.tls = folder / "tls"
        self._names = certificate["spec"]["dnsNames"]
        self._authority = authority
        (script,) = container["args"]
        assert container["command"] == ["sh", "-c"]
        assert _LOOK_AGAIN in script
        self._script = script.replace(_LOOK_AGAIN, "sleep 0.1")
        probe = container["readinessProbe"]["exec"]["command"][-1]
        self._probe = probe.replace("valkey-cli", f"valkey-cli -p {port}")
        given = {one["name"]: one["value"] for one in container["env"] if "value" in one}
        self._environment = {
            **given,
            "REDISCLI_AUTH": PASSWORD,
            "PATH": "/opt/valkey/usr/bin:/usr/bin:/usr/sbin",
            "LD_LIBRARY_PATH": f"/opt/valkey/usr/lib/{os.uname().machine}-linux-gnu",
        }
        self._process: subprocess.Popen[bytes] | None = None
        self.renew()

    def renew(self) -> None:
        """Put a new certificate of the authority in place, with the names of the manifest and of this machine."""
        certificate = self._authority.issue_cert(*self._names, "127.0.0.1")
        self._authority.cert_pem.write_to_path(str(self.tls / "ca.crt"))
        (self.tls / "tls.key").write_bytes(certificate.private_key_pem.bytes())
        (self.tls / "tls.crt").write_bytes(b"".join(blob.bytes() for blob in certificate.cert_chain_pems))

    def start(self) -> None:
        """Start the container. `is_ready` says when it serves."""
        mounted = [*map(str, self._folders), str(self._program)]
        command = ["unshare", "-rmpf", "--kill-child", "sh", "-c", _MAKE_ROOT, "sh", str(self._root), *mounted]
        self._process = subprocess.Popen([*command, self._script], env=self._environment)

    def is_ready(self) -> bool:
        """Whether the readiness probe of the manifest passes. Fails when the container has ended."""
        assert self._process is not None
        assert self._process.poll() is None, "the container runs"
        return self._inside(self._probe)

    def wait(self) -> int:
        """Wait until the container has ended by itself. Returns its exit status."""
        assert self._process is not None
        return self._process.wait(timeout=60)

    def kill(self) -> None:
        """End the container at once, as by kill -9."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()

    def _inside(self, command: str) -> bool:
        """Run a shell command in the container. Returns whether it succeeded."""
        assert self._process is not None
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        if not children:
            return False
        root = f"/proc/{children[0]}/root"
        enter = ["nsenter", f"--target={children[0]}", "--user", "--mount", "--pid", "--preserve-credentials"]
        run = [*enter, "chroot", root, "sh", "-c", command]
        return subprocess.run(run, env=self._environment, capture_output=True).returncode == 0
