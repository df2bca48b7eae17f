"""The commands for kubectl and helm in the documents run as they stand, against a stand-in for a cluster."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from chroma_voice.keys_file import KeysFile
from tests.support.cluster.server import Cluster, running
from tests.support.helm import CHART
from tests.support.manifests import OVERLAYS, Manifest, overlay
from tests.support.shell import checkout, commands, run_shell
from tests.support.snippets import snippet_that_begins

TURN = "turn-0123456789abcdef"
SPAN = {
    "span": "turn",
    "turn": TURN,
    "trace_id": "t",
    "span_id": "1",
    "parent_id": "",
    "start_s": 100.0,
    "seconds": 2.0,
}
LOGS = json.dumps({**SPAN, "status": "OK", "marks": {"committed": 1.0}}) + "\n"
"""What every pod has written: the span of a turn."""
NEW, OLD = f"sha256:{'0' * 64}", f"sha256:{'1' * 64}"
"""The digest of the images in the overlay `production`, and one of an earlier version."""

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Operator:
    """Somebody in a checkout with an empty cluster."""

    checkout: Path
    cluster: Cluster
    variables: dict[str, str]

    def run(self, code: str) -> str:
        """Run a block. Returns what it prints."""
        return run_shell(code, self.checkout, self.variables)

    def image(self, deployment: str) -> str:
        """The image of a Deployment in the cluster."""
        found = self.cluster.find("Deployment", deployment)
        return found["spec"]["template"]["spec"]["containers"][0]["image"]


@pytest.fixture
def operator(tmp_path: Path) -> Iterator[Operator]:
    kinds = [manifest for name in OVERLAYS for manifest in overlay(name)]
    with running(kinds, tmp_path, LOGS) as cluster:
        variables = {
            "PATH": commands(tmp_path / "bin"),
            "HOME": str(tmp_path),
            "KUBECONFIG": str(cluster.kubeconfig),
            "HF_TOKEN": "hf_of_the_test",
        }
        yield Operator(checkout(tmp_path / "checkout"), cluster, variables)


def secret(cluster: Cluster, name: str) -> dict[str, str]:
    return {key: base64.b64decode(it).decode() for key, it in cluster.find("Secret", name)["data"].items()}


def test_secrets_are_made_and_the_overlay_for_a_laptop_is_installed(operator: Operator) -> None:
    operator.run(snippet_that_begins("docs/operations.md", "kubectl create namespace").code)
    keys = operator.checkout / "keys.json"
    assert secret(operator.cluster, "chroma-voice-keys") == {"keys.json": keys.read_text()}
    redis = secret(operator.cluster, "redis")
    assert f":{redis['password']}@" in redis["url"]
    assert secret(operator.cluster, "huggingface") == {"token": "hf_of_the_test"}

    KeysFile(keys).add("another", "acme", ["talk"], None)
    operator.run(snippet_that_begins("docs/operations.md", "kubectl -n chroma-voice create secret generic").code)
    assert secret(operator.cluster, "chroma-voice-keys") == {"keys.json": keys.read_text()}
    assert "another" in keys.read_text()

    printed = operator.run(snippet_that_begins("docs/operations.md", "kubectl kustomize").code)
    assert 'deployment "gateway" successfully rolled out' in printed
    assert operator.cluster.find("StatefulSet", "valkey")


def earlier(manifests: list[Manifest]) -> list[Manifest]:
    """The manifests with other images."""
    return json.loads(json.dumps(manifests).replace(NEW, OLD))


def test_an_upgrade_is_shown_applied_and_undone_and_the_pods_can_be_looked_at(operator: Operator) -> None:
    operator.cluster.add(earlier(overlay("production")))
    assert operator.image("speech-gen").endswith(OLD)
    upgrade = snippet_that_begins("docs/operations.md", "kubectl diff").code
    shown = operator.run(f"set +e\n{upgrade}")  # diff has the status 1 when there is a difference
    lines = [line.split("image: ") for line in shown.splitlines() if "/speech-gen@" in line]
    assert {(mark.strip(), image[-len(OLD) :]) for mark, image in lines} == {("-", OLD), ("+", NEW)}
    assert 'deployment "speech-gen" successfully rolled out' in shown
    assert operator.image("speech-gen").endswith(NEW)

    operator.run(snippet_that_begins("docs/operations.md", "kubectl -n chroma-voice rollout undo").code)
    assert operator.image("speech-gen").endswith(OLD)
    before = operator.cluster.find("Deployment", "gateway")["spec"]["template"]
    operator.run(snippet_that_begins("docs/operations.md", "kubectl -n chroma-voice rollout restart").code)
    assert operator.cluster.find("Deployment", "gateway")["spec"]["template"] != before

    printed = operator.run(snippet_that_begins("docs/operations.md", "kubectl -n chroma-voice get pods").code)
    for part in ("gateway-", "speech-gen-", "valkey-0", TURN):
        assert part in printed
    seen = operator.run(snippet_that_begins("docs/operations.md", "kubectl -n chroma-voice logs -l").code)
    assert seen.startswith(f"{TURN} OK")


def test_the_chart_is_installed_tested_and_upgraded(operator: Operator) -> None:
    values = yaml.safe_load((CHART / "values-local.yaml").read_text()) | {"image": {"registry": "registry.example.com"}}
    (operator.checkout / "mine.yaml").write_text(yaml.safe_dump(values))
    printed = operator.run(snippet_that_begins("docs/operations.md", "helm install").code)
    assert "Phase:          Succeeded" in printed
    assert printed.count("STATUS: deployed") == 3
    assert operator.cluster.find("Namespace", "chroma-voice")["metadata"]["labels"]
    assert operator.image("gateway").startswith("registry.example.com/chroma-voice/gateway:")


def test_the_commands_of_the_chart_s_own_readme_install_it(operator: Operator) -> None:
    shutil.copy(CHART / "values-local.yaml", operator.checkout / "mine.yaml")
    block = snippet_that_begins("deploy/helm/chroma-voice/README.md", "helm install").code
    assert block == snippet_that_begins("deploy/helm/readme.md", "helm install").code
    assert "Phase:          Succeeded" in operator.run(block)
    assert operator.cluster.find("Deployment", "codec")


def test_helm_adopts_what_kustomize_has_installed(operator: Operator) -> None:
    shutil.copy(CHART / "values-local.yaml", operator.checkout / "mine.yaml")
    operator.cluster.add(overlay("local"))
    before = operator.cluster.find("PersistentVolumeClaim", "models")["metadata"]["uid"]
    block = snippet_that_begins("deploy/helm/chroma-voice/README.md", "helm template").code
    assert block == snippet_that_begins("deploy/helm/readme.md", "helm template").code
    assert "STATUS: deployed" in operator.run(block)
    for kind, name in (("PersistentVolumeClaim", "models"), ("StatefulSet", "valkey"), ("Deployment", "gateway")):
        adopted = operator.cluster.find(kind, name)["metadata"]
        assert adopted["labels"]["app.kubernetes.io/managed-by"] == "Helm"
        assert adopted["annotations"]["meta.helm.sh/release-name"] == "chroma-voice"
    assert operator.cluster.find("PersistentVolumeClaim", "models")["metadata"]["uid"] == before


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("kubectl -n chroma-voice rollout undo deployment/speech-gen", 'namespaces "chroma-voice" not found'),
        ("kubectl -n chroma-voice create secret generic x --from-literal=a=b", 'namespaces "chroma-voice" not found'),
        ("helm -n chroma-voice test chroma-voice", "release: not found"),
    ],
)
def test_a_wrong_order_fails_as_in_a_cluster(operator: Operator, code: str, problem: str) -> None:
    with pytest.raises(AssertionError, match=problem):
        operator.run(code)
