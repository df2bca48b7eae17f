"""The conformance command succeeds on the golden set and fails when one number differs."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
from safetensors.torch import save_file

from tests.conformance.__main__ import main
from tests.support.golden_checkpoint import golden_checkpoint
from tests.support.golden_files import load_golden
from tests.support.paths import PUBLIC_GOLDEN

PUBLIC = PUBLIC_GOLDEN


def run(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> tuple[int, list[dict]]:
    """The exit status of the command and the lines that it printed."""
    monkeypatch.setattr(sys, "argv", ["conformance", str(folder)])
    status = main()
    return status, [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_every_public_case_equals_the_reference(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    status, lines = run(PUBLIC, monkeypatch, capsys)
    assert status == 0, [line for line in lines if not line["pass"]]
    assert lines[-1] == {"cases": 8, "failed": 0, "pass": True}


@pytest.mark.parametrize(
    ("tensor", "finding"),
    [
        ("out.frames", "frames"),
        ("out.thinker_token_ids", "thinker_token_ids"),
        ("out.thinker_last_hidden", "thinker_last_hidden"),
        ("out.codebook0_logits", "codebook0_logits"),
        ("out.prompt_audio_codes", "prompt_audio_codes"),
        ("out.pcm.0", "pcm"),
    ],
)
def test_one_wrong_number_fails_its_case_and_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tensor: str, finding: str
) -> None:
    (tmp_path / "checkpoint").symlink_to(golden_checkpoint())
    shutil.copy(PUBLIC / "text_only.json", tmp_path)
    golden = load_golden(PUBLIC, "text_only")
    golden[tensor].view(-1)[3] += 1
    save_file(golden, tmp_path / "text_only.safetensors")
    status, lines = run(tmp_path, monkeypatch, capsys)
    assert status == 1
    assert any(off.startswith(finding) for off in lines[0]["off"])
