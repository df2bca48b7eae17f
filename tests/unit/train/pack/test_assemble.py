"""Assembly: artefacts of random weights under the published names, joined, and read by what serves them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from checkpoints.report import inspect_checkpoint
from services.codec.model.mimi import Mimi
from services.reasoner.model.weights import load_thinker
from services.runtime.checkpoint.checkpoint import AUDIO_TABLE_NAMES, Checkpoint
from services.runtime.checkpoint.config import read_generation_config
from services.runtime.checkpoint.shards import INDEX_FILE, SINGLE_FILE
from services.runtime.checkpoint.tokenizer import Tokenizer
from services.speech_gen.model.weights import load_generator
from tests.support.random_artefacts import SMALL, random_tensors
from train.corpus.vocabulary import nano_tokenizer, text_embedding
from train.optim.training_loop import save_artefact
from train.pack import assemble
from train.pack.assemble import AssemblyError, read_artefacts
from train.pack.config import nano, nano_config

PARTS = {"codec": ("codec_model.",), "speech": ("backbone.", "decoder."), "reasoner": ("thinker.",)}


def save_artefacts(tensors: assemble.Tensors, root: Path) -> None:
    for part, prefixes in PARTS.items():
        of_part = {name: tensor for name, tensor in tensors.items() if name.startswith(prefixes)}
        save_artefact(root / f"{part}.safetensors", of_part)


def join(tensors: assemble.Tensors, folder: Path, config: dict[str, Any]) -> int:
    return assemble.assemble(tensors, config, folder, temperature=0.7, top_k=20)


@pytest.fixture(scope="module")
def tensors() -> dict[str, torch.Tensor]:
    return random_tensors(nano_config())


@pytest.fixture(scope="module")
def folder(tensors: dict[str, torch.Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of full size, by way of artefacts."""
    root = tmp_path_factory.mktemp("nano")
    save_artefacts({name: tensor for name, tensor in tensors.items() if name != assemble.TEXT_TABLE}, root)
    join(read_artefacts(root), root / "chroma-nano", nano_config())
    return root / "chroma-nano"


@pytest.fixture(scope="module")
def few_tensors() -> dict[str, torch.Tensor]:
    return random_tensors(SMALL)


def test_assembled_checkpoint_is_complete_and_within_its_size(folder: Path) -> None:
    report = inspect_checkpoint(Checkpoint.open(folder))
    assert report.is_servable
    assert report.unexpected == ()
    assert {dtype for part in report.parts for dtype in part.dtypes} == {"F16"}
    assert sum(file.stat().st_size for file in folder.iterdir()) <= 32_000_000


def test_assembled_checkpoint_brings_tokenizer_template_and_sampling(folder: Path) -> None:
    checkpoint = Checkpoint.open(folder)
    tokenizer = Tokenizer.from_checkpoint(checkpoint)
    assert tokenizer.encode("how do I make a taco") == nano_tokenizer().encode("how do I make a taco")
    assert "<|im_start|>" in tokenizer.chat_template
    sampling = read_generation_config(checkpoint.generation_config)
    assert (sampling.temperature, sampling.top_k) == (0.7, 20)
    assert json.loads((folder / "config.json").read_text())["dtype"] == "float16"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_services_read_float16_in_both_dtypes_they_compute_in(
    tensors: dict[str, torch.Tensor], folder: Path, dtype: torch.dtype
) -> None:
    def stored(name: str) -> torch.Tensor:
        return tensors[name].half().to(dtype)

    checkpoint = Checkpoint.open(folder)
    thinker = load_thinker(checkpoint, dtype=dtype)
    assert torch.equal(thinker.embedding, stored(assemble.TEXT_TABLE))
    assert torch.equal(thinker.tower.state_dict()["conv1.weight"], stored("thinker.audio_tower.conv1.weight"))
    backbone = load_generator(checkpoint, slots=1, dtype=dtype).backbone
    assert torch.equal(backbone.audio_table, stored(AUDIO_TABLE_NAMES[1]))


def test_codec_reads_float16_and_computes_in_float32(folder: Path) -> None:
    mimi = Mimi.load(Checkpoint.open(folder))
    samples = mimi.decode(np.full((2, 8), nano().codec.codebook_size - 1))
    assert samples.dtype == np.float32
    assert samples.shape == (2 * 1920,)
    assert np.isfinite(samples).all()


def test_assembling_again_replaces_the_weights_and_keeps_the_model_card(
    few_tensors: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    (tmp_path / "README.md").write_text("a card")
    (tmp_path / "model-00001-of-00009.safetensors").write_text("of an earlier layout")
    (tmp_path / INDEX_FILE).write_text("of an earlier layout")
    join(few_tensors, tmp_path, SMALL)
    assert (tmp_path / "README.md").read_text() == "a card"
    assert [file.name for file in tmp_path.glob("*.safetensors*")] == [SINGLE_FILE]


def test_stage_that_has_not_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"codec\.safetensors"):
        read_artefacts(tmp_path)


def test_text_table_that_is_not_the_frozen_one_is_refused(few_tensors: dict[str, torch.Tensor], tmp_path: Path) -> None:
    save_artefacts({**few_tensors, assemble.TEXT_TABLE: text_embedding() + 1}, tmp_path)
    with pytest.raises(AssemblyError, match=r"reasoner.safetensors: tensor thinker.model.embed_tokens.weight differs"):
        read_artefacts(tmp_path)


@pytest.mark.parametrize(
    ("name", "tensor", "message"),
    [
        ("thinker.lm_head.weight", None, "1 tensors are missing, among them thinker.lm_head.weight"),
        ("thinker.lm_head.weight", torch.zeros(3, 4), r"thinker.lm_head.weight: expected shape \[\d+, 256\], found"),
        ("thinker.lm_tail.weight", torch.zeros(1), "1 tensors are unknown to config.json: thinker.lm_tail.weight"),
        ("thinker.model.norm.weight", torch.full((256,), 1e6), "thinker.model.norm.weight: has values that are not"),
    ],
)
def test_wrong_tensor_is_named_and_nothing_is_written(
    few_tensors: dict[str, torch.Tensor], tmp_path: Path, name: str, tensor: torch.Tensor | None, message: str
) -> None:
    others = {known: value for known, value in few_tensors.items() if known != name}
    with pytest.raises(AssemblyError, match=message):
        join(others if tensor is None else {**others, name: tensor}, tmp_path / "out", SMALL)
    assert not (tmp_path / "out").exists()


def test_checkpoint_larger_than_the_limit_is_refused_and_the_old_one_stays(
    few_tensors: dict[str, torch.Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model-00001-of-00001.safetensors").write_text("the last good one")
    monkeypatch.setattr(assemble, "CHECKPOINT_BYTES", 1_000_000)
    with pytest.raises(AssemblyError, match=r"takes \d+,\d+,\d+ bytes, expected at most 1,000,000"):
        join(few_tensors, tmp_path, SMALL)
    assert [file.name for file in tmp_path.iterdir()] == ["model-00001-of-00001.safetensors"]
