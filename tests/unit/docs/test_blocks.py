"""Blocks of documents that need no running system, run as they stand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gateway.settings import GatewaySettings
from tests.support.manifests import K8S
from tests.support.model_hub import serving
from tests.support.shell import commands, run_shell
from tests.support.snippets import snippet_that_begins

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.slow
def test_a_key_is_made_and_the_old_one_revoked(tmp_path: Path) -> None:
    block = snippet_that_begins("docs/operations.md", "chroma-voice key new --id app-2026")
    printed = run_shell(block.code, tmp_path, {"PATH": commands(tmp_path / "bin")})
    assert [entry["id"] for entry in json.loads((tmp_path / "keys.json").read_text())["keys"]] == ["app-2027"]
    assert "app-2026" in printed


def test_the_gateway_takes_the_settings_of_an_identity_provider(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    block = snippet_that_begins("docs/operations.md", "CHROMA_OIDC_ISSUER")
    set_in_the_shell = run_shell(f"set -a\n{block.code}\nenv", tmp_path)
    found = dict(line.split("=", 1) for line in set_in_the_shell.splitlines() if line.startswith("CHROMA_OIDC_"))
    assert len(found) == len(block.code.splitlines())
    for name, value in found.items():
        monkeypatch.setenv(name, value)
    for name in ("REDIS_URL", "REASONER", "SPEECH_GEN", "CODEC"):
        monkeypatch.setenv(f"CHROMA_{name}", "unix:/none")
    settings = GatewaySettings()  # type: ignore[call-arg]
    assert settings.oidc_issuer == "https://login.example.com/realms/voice"
    assert (settings.oidc_audience, settings.oidc_tenant_claim) == ("chroma-voice", "tenant")


@pytest.mark.slow
def test_weights_of_one_commit_are_fetched_and_have_the_digest_that_the_init_container_computes(tmp_path: Path) -> None:
    contents = {name: name.encode() for name in ("config.json", "b.safetensors", "parts/A.txt", "template.jinja")}
    fetch = snippet_that_begins("docs/operations.md", "commit=$(python").code
    with serving("FlashLabs/Chroma-4B", COMMIT, {**contents, "README.md": b"not wanted"}) as hub:
        hub_settings = {"HF_ENDPOINT": hub, "HF_HOME": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "0", "HF_TOKEN": ""}
        printed = run_shell(fetch, tmp_path, {"PATH": commands(tmp_path / "bin"), **hub_settings})
    assert f"WEIGHTS_REVISION={COMMIT}" in printed
    weights = tmp_path / "weights"
    found = {str(it.relative_to(weights)): it.read_bytes() for it in weights.rglob("*") if it.is_file()}
    assert {name: data for name, data in found.items() if not name.startswith(".")} == contents

    block = snippet_that_begins("docs/operations.md", "cd weights && find").code
    shown = run_shell(block, tmp_path).strip()
    (line,) = [it for it in (K8S / "base" / "fetch-weights.sh").read_text().splitlines() if it.startswith("digest=")]
    assert shown == run_shell(f'{line}\necho "$digest"', tmp_path, {"CHROMA_MODEL": str(weights)}).strip()
    (weights / "config.json").write_text("other")
    assert shown != run_shell(block, tmp_path).strip()
