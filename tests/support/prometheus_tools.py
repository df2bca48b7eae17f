"""Debian's Prometheus, unpacked into build/tools without root: its programs, and a running one."""

from __future__ import annotations

import json
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from chroma_voice.local.ports import LOOPBACK, free_ports
from tests.support.debian_packages import unpacked
from tests.support.paths import ROOT

MONITORING = ROOT / "deploy" / "k8s" / "components" / "monitoring"


def program(name: str) -> Path:
    """The path of `prometheus` or `promtool`, which is fetched once. Skips the test where there is no apt or no
    package.
    """
    return unpacked("prometheus", "prometheus") / "usr" / "bin" / name


def rule_groups() -> list[dict[str, Any]]:
    """The groups of the PrometheusRule, in the form that Prometheus reads."""
    return yaml.safe_load((MONITORING / "rules.yaml").read_text())["spec"]["groups"]


class Prometheus:
    """A running Prometheus, which is queried over HTTP."""

    def __init__(self, address: str) -> None:
        self._address = address

    def ask(self, query: str) -> list[dict[str, Any]]:
        """The series of an instant query."""
        return self._get("query", query=query)["result"]

    def broken_rules(self) -> list[str]:
        """The rules that could not be evaluated, with the reason."""
        rules = [rule for group in self._get("rules")["groups"] for rule in group["rules"]]
        return [f"{rule['name']}: {rule['lastError']}" for rule in rules if rule["health"] != "ok"]

    def up(self) -> dict[str, str]:
        """Each target's job and health."""
        return {target["labels"]["job"]: target["health"] for target in self._get("targets")["activeTargets"]}

    def _get(self, path: str, **parameters: str) -> Any:
        url = f"http://{self._address}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=60) as answer:
            return json.load(answer)["data"]


@contextmanager
def scraping(targets: dict[str, str], folder: Path, groups: list[dict[str, Any]]) -> Iterator[Prometheus]:
    """A Prometheus that scrapes these metrics pages, by process, every second, and evaluates these rules."""
    (port,) = free_ports(1)
    address = f"{LOOPBACK}:{port}"
    configuration = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": ["rules.yml"],
        "scrape_configs": [
            {"job_name": f"chroma-voice/{name}", "static_configs": [{"targets": [target]}]}
            for name, target in targets.items()
        ],
    }
    (folder / "rules.yml").write_text(yaml.safe_dump({"groups": groups}))
    (folder / "prometheus.yml").write_text(yaml.safe_dump(configuration))
    options = ["--config.file=prometheus.yml", f"--web.listen-address={address}", "--storage.tsdb.path=data"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([program("prometheus"), *options], cwd=folder, stdout=log, stderr=log)
    try:
        yield Prometheus(address)
    finally:
        process.terminate()
        process.wait()
