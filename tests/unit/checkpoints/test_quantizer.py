"""A quantised checkpoint gives what the original gives when it is quantised at load."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from checkpoints.__main__ import main
from checkpoints.quantizer import source_size_bytes, write_quantized
from checkpoints.report import inspect_checkpoint
from services.common.errors import AlreadyExists, CheckpointError
from services.reasoner.model.weights import load_thinker
from services.runtime.checkpoint.checkpoint import Checkpoint
from services.runtime.checkpoint.quantized import WeightFormat
from services.speech_gen.model.weights import load_generator
from tests.support.golden_checkpoint import golden_checkpoint

GOLDEN = golden_checkpoint()


@pytest.fixture(scope="module", params=["int8", "int4"])
def quantized(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    folder = tmp_path_factory.mktemp("quantised") / request.param
    assert main(["quantize", str(GOLDEN), str(folder), "--weights", request.param]) == 0
    return Checkpoint.open(folder)


@torch.inference_mode()
def test_both_ways_give_the_same_bits(quantized: Checkpoint) -> None:
    assert quantized.quantization is not None
    weights, original = quantized.quantization.format, Checkpoint.open(GOLDEN)
    ways: list[tuple[Checkpoint, WeightFormat]] = [
        (original, weights),
        (quantized, "as-stored"),
        (quantized, weights),
    ]
    thinkers = [load_thinker(checkpoint, dtype=torch.float32, weights=each) for checkpoint, each in ways]
    generators = [load_generator(checkpoint, slots=1, weights=each) for checkpoint, each in ways]
    noise = torch.Generator().manual_seed(0)
    rows = torch.randn(5, thinkers[0].config.width, generator=noise)
    mel = torch.randn(200, thinkers[0].tower.mel_bins, generator=noise)
    for at_load, *from_disk in (
        [thinker.head(rows) for thinker in thinkers],
        [thinker.stack.layers[1].gate_up(rows) for thinker in thinkers],
        [thinker.tower([mel])[0] for thinker in thinkers],
        [generator.backbone.codebook0_logits(rows) for generator in generators],
        [generator.decoder.code_rows for generator in generators],
        [generator.decoder.heads[6](generator.decoder.code_rows[:9]) for generator in generators],
    ):
        assert at_load.isfinite().all()
        assert all(at_load.equal(other) for other in from_disk)


def test_it_has_all_files_and_counts_as_the_checkpoint_that_was_quantised(quantized: Checkpoint) -> None:
    original = Checkpoint.open(GOLDEN)
    assert quantized.quantization is not None
    weights = quantized.quantization.format
    assert quantized.fingerprint == original.fingerprint
    assert quantized.weights_fingerprint("as-stored") == original.weights_fingerprint(weights)
    assert quantized.weights_fingerprint("as-stored") != original.weights_fingerprint("as-stored")
    for name in ("generation_config.json", "config.json"):
        assert (quantized.path / name).exists() == (GOLDEN / name).exists()
    report = inspect_checkpoint(quantized)
    assert report.is_servable
    assert report.unexpected == ()
    of_original = {
        part.name: part.parameters for part in inspect_checkpoint(original).parts if "vision" not in part.name
    }
    assert {part.name: part.parameters for part in report.parts} == of_original


def test_a_quantised_checkpoint_that_was_changed_is_another_checkpoint(quantized: Checkpoint, tmp_path: Path) -> None:
    tensors = {name: t for shard in quantized.path.glob("*.safetensors") for name, t in load_file(shard).items()}
    tensors["thinker.lm_head.weight"] = tensors["thinker.lm_head.weight"] ^ 1
    save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text((quantized.path / "config.json").read_text())
    changed = Checkpoint.open(tmp_path)
    assert changed.fingerprint not in (quantized.fingerprint, Checkpoint.open(GOLDEN).fingerprint)


def test_inspect_shows_the_bits_and_their_fingerprint(
    quantized: Checkpoint, capsys: pytest.CaptureFixture[str]
) -> None:
    assert quantized.quantization is not None
    assert main(["inspect", str(quantized.path)]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert f"weights {quantized.quantization.format}" in shown
    assert quantized.weights_fingerprint("as-stored") in shown


def test_a_part_with_another_dtype_is_refused(quantized: Checkpoint, tmp_path: Path) -> None:
    tensors = {name: t for shard in quantized.path.glob("*.safetensors") for name, t in load_file(shard).items()}
    tensors["thinker.lm_head.weight_scale"] = tensors["thinker.lm_head.weight_scale"].half()
    save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text((quantized.path / "config.json").read_text())
    with pytest.raises(CheckpointError, match=r"lm_head.weight_scale: expected dtype .*, found torch.float16"):
        load_thinker(Checkpoint.open(tmp_path), dtype=torch.float32)


def test_a_checkpoint_in_other_bits_is_neither_served_nor_quantised_again(
    quantized: Checkpoint, tmp_path: Path
) -> None:
    assert quantized.quantization is not None
    other = "int4" if quantized.quantization.format == "int8" else "int8"
    with pytest.raises(CheckpointError, match=f"cannot be served as {other}: set CHROMA_WEIGHTS to as-stored or"):
        quantized.weight_format(other)
    with pytest.raises(CheckpointError, match=r"already quantised as .*: quantise the original checkpoint"):
        write_quantized(quantized, tmp_path / "again", bits=8)


def test_the_shards_hold_everything_and_the_progress_ends_at_the_size(tmp_path: Path) -> None:
    source, read = Checkpoint.open(GOLDEN), []
    write_quantized(source, tmp_path / "many", bits=8, shard_bytes=100_000, progress=read.append)
    assert sum(read) == source_size_bytes(source)
    assert len(list((tmp_path / "many").glob("*.safetensors"))) > 5
    assert inspect_checkpoint(Checkpoint.open(tmp_path / "many")).is_servable
    index = json.loads((tmp_path / "many" / "model.safetensors.index.json").read_text())
    names = Checkpoint.open(tmp_path / "many").names()
    assert sorted(index["weight_map"]) == names


@pytest.mark.parametrize(
    ("bits", "group_size", "message"),
    [
        (4, 64, r"expected a group size that divides its \d+ inputs, found 64; 16 does"),
        (8, 32, "expected no group size"),
    ],
)
def test_group_sizes_that_cannot_be_are_refused_before_anything_is_written(
    bits: int, group_size: int, message: str, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match=message):
        write_quantized(Checkpoint.open(GOLDEN), tmp_path / "new", bits=4 if bits == 4 else 8, group_size=group_size)
    assert not (tmp_path / "new").exists()


def test_a_folder_with_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("kept")
    with pytest.raises(AlreadyExists, match="expected a new or empty folder"):
        write_quantized(Checkpoint.open(GOLDEN), tmp_path, bits=8)
