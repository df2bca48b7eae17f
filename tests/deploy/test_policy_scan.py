import json
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from deploy.helm.kustomize import build_text
from tests.support.helm import template
from tests.support.manifests import DEPLOY, K8S, OVERLAYS, ROOT

CHECKOV = shutil.which("checkov", path=f"{ROOT / '.venv-deploy' / 'bin'}") or shutil.which("checkov")

BUILT_HERE = ["CKV_K8S_15", "CKV_K8S_43"]
"""Images that are built here and loaded into the cluster have a tag but no digest, and cannot be pulled."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHECKOV is None, reason="no checkov: `make deploy-tools` installs it into .venv-deploy"),
]


def failures(framework: str, file: Path, skipped: list[str]) -> list[str]:
    skips = [part for check in skipped for part in ("--skip-check", check)]
    wanted = ["--framework", framework, "--file", file, "--output", "json", "--skip-download"]
    result = subprocess.run(
        [str(CHECKOV), *wanted, "--config-file", str(DEPLOY / "checkov.yaml"), *skips],
        capture_output=True,
        text=True,
        check=False,
        cwd=file.parent,
    )
    report = json.loads(result.stdout)
    assert report["summary"]["passed"] > 0, result.stderr
    assert not report["summary"]["parsing_errors"]
    return [f"{check['check_id']} {check['resource']}" for check in report["results"]["failed_checks"]]


@pytest.mark.parametrize("name", OVERLAYS)
def test_the_policy_scanner_finds_nothing_in_an_overlay(name: str, tmp_path: Path) -> None:
    built = tmp_path / f"{name}.yaml"
    built.write_text(build_text(K8S / "overlays" / name))
    exceptions = ["CKV_K8S_11", "CKV_K8S_35"] + ([] if name == "production" else BUILT_HERE)
    assert failures("kubernetes", built, exceptions) == []


@pytest.mark.parametrize("name", OVERLAYS)
def test_the_policy_scanner_finds_nothing_in_the_helm_chart(name: str, tmp_path: Path) -> None:
    built = tmp_path / f"chart-{name}.yaml"
    built.write_text(yaml.safe_dump_all(template(None, f"values-{name}.yaml")))
    exceptions = ["CKV_K8S_11", "CKV_K8S_35"] + ([] if name == "production" else BUILT_HERE)
    assert failures("kubernetes", built, exceptions) == []


def test_the_policy_scanner_finds_nothing_in_the_dockerfile() -> None:
    assert failures("dockerfile", DEPLOY / "Dockerfile", ["CKV_K8S_11"]) == []
