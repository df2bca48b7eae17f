"""`chroma-voice eval` on chroma-nano: the sample pairs through all services, and the codec alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from chroma_voice.cli.evaluation.evaluate_run import EvalOptions, start
from chroma_voice.cli.gateway_address import GatewayOptions
from tests.support.eval_results import INSTRUMENTS
from tests.support.local_stack import LocalStack
from tests.support.shell import checkout, mark_installed, run_shell, virtual_environment
from tests.support.snippets import snippet_that_begins

pytestmark = pytest.mark.slow


def results_in(folder: Path) -> dict[str, Any]:
    [results] = folder.iterdir()
    assert (results / "eval.html").read_text().startswith("<!doctype html>")
    return json.loads((results / "eval.json").read_text())


def test_the_sample_pairs_are_asked_and_measured(
    nano: LocalStack, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = EvalOptions(None, tmp_path, 1, None, 1, 4, "", None, 60.0)
    start(GatewayOptions(state=nano.folder.path), options, lambda cache, whisper: INSTRUMENTS)
    assert "4 replies to 4 pairs; 0 failed" in capsys.readouterr().out
    told = results_in(tmp_path)
    assert {record["kind"] for record in told["replies"]} == {"spoken", "typed", "given"}
    for record in told["replies"]:
        assert record["ended"] == "eos"
        assert 0.5 < record["sound"]["seconds"] < 15
        assert record["sound"]["clipped_share"] < 0.01
        assert record["first_sound_s"] > 0
    assert told["replies"][-1]["text"] == "Hello, I am Chroma, your guide to the museum."
    assert told["summary"]["missing"] == {}  # the launcher's codec is found
    codec = [one for one in told["references"] if one["kind"] == "codec"]
    assert {one["voice"] for one in codec} == {record["voice"] for record in told["replies"]}


@pytest.mark.timeout(600)
def test_the_commands_of_the_guide_install_the_instruments_which_understand_the_replies_and_know_the_voices(
    tmp_path: Path,
) -> None:
    root = checkout(tmp_path / "checkout")
    virtual_environment(root / ".venv")
    mark_installed(root / ".venv", ".torch", ".installed")
    block = snippet_that_begins("docs/eval.md", "make setup-eval")
    try:
        run_shell(block.code, root, {"MAKEFLAGS": ""}, limit_s=500)  # no VENV= of a make above
    finally:
        LocalStack(root / "state").stop()
    summary = results_in(root / "eval-results")["summary"]
    assert summary["overall"]["word_error_rate"] < 0.3
    others = next(one for one in summary["references"] if one["name"] == "another speaker")
    assert summary["overall"]["similarity"]["mean"] > others["similarity"]["mean"]
