"""The report of complete and of damaged checkpoints."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from checkpoints.__main__ import main
from checkpoints.report import inspect_checkpoint
from services.runtime.checkpoint.checkpoint import AUDIO_TABLE_NAMES, Checkpoint
from tests.support.golden_checkpoint import golden_checkpoint

GOLDEN = golden_checkpoint()
HEAD = "thinker.lm_head.weight"


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    """The golden checkpoint as one file, without its audio table, with a shorter head and an extra tensor."""
    folder = tmp_path / "damaged"
    folder.mkdir()
    shutil.copy(GOLDEN / "config.json", folder)
    tensors = {name: t for shard in sorted(GOLDEN.glob("*.safetensors")) for name, t in load_file(shard).items()}
    del tensors[AUDIO_TABLE_NAMES[1]]
    tensors[HEAD] = tensors[HEAD][:-1].clone()
    tensors["talker.extra"] = tensors["decoder.projection.weight"].clone()
    save_file(tensors, folder / "model.safetensors")
    return folder


def test_golden_checkpoint_is_servable_and_every_parameter_is_in_a_part() -> None:
    checkpoint = Checkpoint.open(GOLDEN)
    report = inspect_checkpoint(checkpoint)
    assert report.is_servable
    assert report.unexpected == ()
    assert sum(part.tensors for part in report.parts) == len(checkpoint.names())
    assert {part.name: part.parameters for part in report.parts}["audio table"] == 16408 * 48


def test_missing_misshapen_and_unexpected_tensors_are_distinguished(damaged: Path) -> None:
    report = inspect_checkpoint(Checkpoint.open(damaged))
    assert not report.is_servable
    assert report.missing == (" or ".join(AUDIO_TABLE_NAMES),)
    assert report.wrong_shape == ((HEAD, (640, 48), (639, 48)),)
    assert report.unexpected == ("talker.extra",)
    assert report.parts[-1].name == "other"


def test_inspect_exits_with_zero_only_for_a_servable_checkpoint(
    damaged: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["inspect", str(GOLDEN)]) == 0
    assert "missing: none" in capsys.readouterr().out
    assert main(["inspect", str(damaged)]) == 1
    assert f"{HEAD}: expected [640, 48], found [639, 48]" in capsys.readouterr().out
    assert main(["inspect", str(damaged / "nowhere")]) == 2
    assert "expected a folder or a hub id" in capsys.readouterr().err
