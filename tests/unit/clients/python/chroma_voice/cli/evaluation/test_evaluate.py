"""The command's options, and what it says when its extra is not installed."""

from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from chroma_voice.cli import app
from chroma_voice.cli.evaluation import evaluate
from chroma_voice.cli.evaluation.evaluate import ENCODER, check_installed
from chroma_voice.errors import FailedPrecondition


def test_the_help_names_every_option() -> None:
    text = CliRunner().invoke(app, ["eval", "--help"], env={"COLUMNS": "200", "TERM": "dumb"}).output
    for option in (
        "FOLDER",
        "--out",
        "--at-once",
        "--limit",
        "--codec",
        "--whisper",
        "--max-reply",
        "--gateway",
        "--tls",
    ):
        assert option in text


@pytest.mark.parametrize(
    ("missing", "told"),
    [
        (
            "faster_whisper",
            r"the extra `eval` is not installed \(no faster_whisper\): pip install 'chroma-voice\[eval\]'",
        ),
        (ENCODER, "the speaker encoder is not installed: pip install --no-deps Resemblyzer"),
    ],
)
def test_a_missing_package_is_told(monkeypatch: pytest.MonkeyPatch, missing: str, told: str) -> None:
    util = SimpleNamespace(find_spec=lambda name: None if name == missing else object())
    monkeypatch.setattr(evaluate, "importlib", SimpleNamespace(util=util))
    with pytest.raises(FailedPrecondition, match=told):
        check_installed()
    result = CliRunner().invoke(app, ["eval"])
    assert isinstance(result.exception, FailedPrecondition)
