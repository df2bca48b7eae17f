from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from chroma_voice.cli import app, up
from chroma_voice.errors import FailedPrecondition
from chroma_voice.local.memory import Memory
from chroma_voice.local.state import StateFolder


class RecordedStack:
    """A stack that records what it is given and is at once at its end."""

    names = ("codec",)
    given: dict[str, Any]

    def __init__(self, folder: StateFolder, model: str, **options: Any) -> None:
        RecordedStack.given = {"model": model, **options}

    async def run(self, **callbacks: Any) -> None:
        """Return at once."""


@pytest.fixture(autouse=True)
def stack(monkeypatch: pytest.MonkeyPatch) -> type[RecordedStack]:
    monkeypatch.setattr(up, "Stack", RecordedStack)
    monkeypatch.setattr(RecordedStack, "given", {}, raising=False)
    return RecordedStack


def invoke(tmp_path: Path, *options: str, **variables: str) -> tuple[str, dict[str, str]]:
    """What `up --model tiny` prints, and the environment that it gives to the processes."""
    done = CliRunner().invoke(
        app, ["up", "--state", str(tmp_path), "--model", "tiny", *options], env=variables, catch_exceptions=False
    )
    assert done.exit_code == 0, done.output
    return done.output, RecordedStack.given["environment"]


def test_auto_is_float32_for_a_small_checkpoint_and_the_memory_is_said(tmp_path: Path) -> None:
    printed, environment = invoke(tmp_path)
    assert environment["CHROMA_DTYPE"] == "float32"
    assert "speech_gen 5.6 MB in float32, " in printed


def test_a_dtype_asked_for_is_taken_and_the_codecs_is_float32_all_the_same(tmp_path: Path) -> None:
    printed, environment = invoke(tmp_path, "--dtype", "bfloat16")
    assert environment["CHROMA_DTYPE"] == "bfloat16"
    assert "reasoner 0.3 MB in bfloat16, speech_gen" in printed
    assert "MB in float32; KV caches" in printed


def test_the_dtype_and_device_of_one_service_alone_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(up.memory, "read_memory", {"cpu": None, "cuda:1": Memory(10**10, 10**10)}.__getitem__)
    printed, _ = invoke(tmp_path, CHROMA_REASONER_DTYPE="bfloat16", CHROMA_REASONER_DEVICE="cuda:1")
    assert "reasoner 0.3 MB in bfloat16, " in printed
    assert "cuda:1 has 10.0 GB free" in printed


def test_a_dtype_that_is_none_is_left_to_the_service_to_refuse(tmp_path: Path) -> None:
    _, environment = invoke(tmp_path, CHROMA_REASONER_DTYPE="float8")
    assert environment["CHROMA_REASONER_DTYPE"] == "float8"


def test_weights_that_cannot_fit_are_refused_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(up.memory, "read_memory", lambda device: Memory(1, 1))
    with pytest.raises(FailedPrecondition, match="do not fit"):
        invoke(tmp_path)
    assert RecordedStack.given == {}
    assert StateFolder(tmp_path).owner() is None


def test_slots_can_be_set_for_all_and_for_one(tmp_path: Path) -> None:
    _, environment = invoke(tmp_path, "--slots", "8", "--codec-slots", "2", CHROMA_REASONER_SLOTS="4")
    slots = {name: value for name, value in environment.items() if name.endswith("_SLOTS")}
    assert slots == {"CHROMA_SLOTS": "8", "CHROMA_CODEC_SLOTS": "2", "CHROMA_REASONER_SLOTS": "4"}


@pytest.mark.parametrize("option", [("--dtype", "float64"), ("--codec-slots", "0"), ("--slots", "many")])
def test_a_bad_option_is_a_wrong_usage(tmp_path: Path, option: tuple[str, str]) -> None:
    assert CliRunner().invoke(app, ["up", "--state", str(tmp_path), *option]).exit_code == 2


def test_down_where_nothing_runs_says_so(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["down", "--state", str(tmp_path)])
    assert done.exit_code == 0
    assert "no chroma-voice runs" in done.output
