"""Debian's Prometheus, unpacked into build/tools without root."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.paths import ROOT

MONITORING = ROOT / "deploy" / "k8s" / "components" / "monitoring"
TOOLS = ROOT / "build" / "tools"


def program(name: str) -> Path:
    """The path of `prometheus` or `promtool`, which is fetched once. Skips the test where there is no apt or no
    package.
    """
    found = TOOLS / "prometheus" / "usr" / "bin" / name
    if found.exists():
        return found
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        pytest.skip("no apt-get and dpkg-deb: Prometheus is taken from Debian's package")
    TOOLS.mkdir(parents=True, exist_ok=True)
    fetched = subprocess.run(["apt-get", "download", "prometheus"], cwd=TOOLS, capture_output=True, text=True)
    if fetched.returncode != 0:
        pytest.skip(f"Debian's package prometheus cannot be fetched: {fetched.stderr.strip()}")
    (package,) = TOOLS.glob("prometheus_*.deb")
    subprocess.run(["dpkg-deb", "-x", package, TOOLS / "prometheus"], check=True)
    package.unlink()
    return found


def rule_groups() -> list[dict[str, Any]]:
    """The groups of the PrometheusRule, in the form that Prometheus reads."""
    return yaml.safe_load((MONITORING / "rules.yaml").read_text())["spec"]["groups"]
