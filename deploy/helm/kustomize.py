"""What kustomize makes of a folder, and of the base with some components. Raises RuntimeError with what it says."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

K8S = Path(__file__).parents[1] / "k8s"


def build_text(folder: Path) -> str:
    """The output for a folder."""
    kubectl = Path(sys.executable).parent / "kubectl"
    done = subprocess.run([kubectl, "kustomize", folder], capture_output=True, text=True, check=False)
    if done.returncode or done.stderr:
        raise RuntimeError(f"kustomize of {folder}: {done.stderr.strip()}")
    return done.stdout


def build(folder: Path) -> list[dict[str, Any]]:
    """The manifests of a folder."""
    return [manifest for manifest in yaml.safe_load_all(build_text(folder)) if manifest]


def build_base(components: Sequence[str]) -> list[dict[str, Any]]:
    """The manifests of the base with these components."""
    with TemporaryDirectory() as temporary:
        folder = Path(temporary).resolve()
        to_k8s = os.path.relpath(K8S, folder)
        kustomization = {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "namespace": "chroma-voice",
            "resources": [f"{to_k8s}/base"],
            "components": [f"{to_k8s}/components/{name}" for name in components],
        }
        (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
        try:
            return build(folder)
        except RuntimeError as error:
            raise RuntimeError(f"the base with {', '.join(components) or 'no component'}: {error}") from None
