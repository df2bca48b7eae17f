"""Checkpoints made here: complete, reproducible, and able to speak and to end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from checkpoints import random_weights
from checkpoints.__main__ import main
from checkpoints.presets import preset_config
from checkpoints.random_weights import RandomWeights
from checkpoints.report import inspect_checkpoint
from checkpoints.tensor_names import expected_tensors
from checkpoints.writer import checkpoint_size_bytes, write_checkpoint
from services.common.errors import AlreadyExists, InvalidArgument
from services.runtime.checkpoint.checkpoint import Checkpoint
from services.runtime.checkpoint.config import ChromaConfig
from services.runtime.checkpoint.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    assert main(["new", "tiny", str(folder), "--seed", "3"]) == 0
    return folder


def file_bytes(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_new_checkpoint_is_servable_with_tokenizer_template_and_features(tiny: Path) -> None:
    checkpoint = Checkpoint.open(tiny)
    report = inspect_checkpoint(checkpoint)
    assert report.is_servable
    assert report.unexpected == ()
    assert sum(part.size_bytes for part in report.parts) == checkpoint_size_bytes("tiny", "float32")
    assert "<|im_start|>" in Tokenizer.from_checkpoint(checkpoint).chat_template
    features = json.loads((tiny / "preprocessor_config.json").read_text())
    assert (features["feature_size"], features["n_fft"], features["hop_length"]) == (128, 400, 160)


def test_same_seed_gives_the_same_bytes_and_another_seed_others(tiny: Path, tmp_path: Path) -> None:
    write_checkpoint("tiny", tmp_path / "same", seed=3)
    assert file_bytes(tmp_path / "same") == file_bytes(tiny)
    write_checkpoint("tiny", tmp_path / "other", seed=4)
    assert Checkpoint.open(tmp_path / "other").fingerprint != Checkpoint.open(tiny).fingerprint


def test_sharding_changes_no_value(tiny: Path, tmp_path: Path) -> None:
    write_checkpoint("tiny", tmp_path / "shards", seed=3, shard_bytes=1_000_000)
    sharded, whole = Checkpoint.open(tmp_path / "shards"), Checkpoint.open(tiny)
    assert len({sharded.entry(name).shard for name in sharded.names()}) > 3
    assert sharded.fingerprint == whole.fingerprint
    assert all(torch.equal(sharded.tensor(name), whole.tensor(name)) for name in whole.names())


def test_bfloat16_holds_the_rounded_values_and_leaves_the_codec_in_float32(tiny: Path, tmp_path: Path) -> None:
    write_checkpoint("tiny", tmp_path / "bf16", seed=3, dtype="bfloat16")
    rounded, whole = Checkpoint.open(tmp_path / "bf16"), Checkpoint.open(tiny)
    for name in whole.names():
        expected = torch.float32 if name.startswith("codec_model.") else torch.bfloat16
        assert torch.equal(rounded.tensor(name), whole.tensor(name, dtype=expected)), name


def test_large_tensors_are_drawn_in_blocks_of_bounded_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random_weights, "BLOCK_VALUES", 1000)
    config = ChromaConfig.from_dict(preset_config("tiny"))
    weights = RandomWeights(config, [1, 2], seed=0)
    blocks = list(weights.blocks("thinker.lm_head.weight", (640, 48)))
    assert max(block.numel() for block in blocks) <= 1000
    head = torch.cat(blocks)
    loud = head.norm(dim=1) > 0.4
    assert loud.nonzero().flatten().tolist() == [1, 2, config.tokens.im_end]


@pytest.mark.parametrize(
    ("part", "at_least", "at_most"),
    [("thinker.", 28e6, 32e6), ("backbone.", 38e6, 42e6), ("decoder.", 13e6, 16e6), ("codec_model.", 1e6, 8e6)],
)
def test_mid_preset_has_the_stated_sizes(part: str, at_least: float, at_most: float) -> None:
    shapes = expected_tensors(ChromaConfig.from_dict(preset_config("mid")))
    tied = "decoder.audio_embedding."
    sizes = [torch.Size(shape).numel() for n, shape in shapes.items() if n.startswith(part) and not n.startswith(tied)]
    assert at_least < sum(sizes) < at_most


def test_eos_in_codebook_0_completes_itself(tiny: Path) -> None:
    """The decoder's coordinate 0 carries the EOS code to every head, and nothing else reaches it."""
    checkpoint = Checkpoint.open(tiny)
    config = ChromaConfig.from_dict(checkpoint.config)
    table = checkpoint.tensor("decoder.audio_embedding.embed_audio_tokens.weight")
    projected = table @ checkpoint.tensor("decoder.projection.weight").T
    eos_rows = torch.arange(config.codebooks) * config.code_vocab_size + config.codebook_eos
    flagged = projected[:, 0].nonzero().flatten()
    assert torch.equal(flagged, eos_rows)
    assert not projected[eos_rows, 1:].any()
    for index in range(config.decoder.layers):
        for writer in ("self_attn.o_proj", "mlp.down_proj"):
            assert not checkpoint.tensor(f"decoder.model.layers.{index}.{writer}.weight")[0].any()
    heads = checkpoint.tensor("decoder.codebook_head.weight")
    assert (heads[:, 0].argmax(dim=-1) == config.codebook_eos).all()


def test_folder_in_use_is_left_alone(tiny: Path) -> None:
    before = file_bytes(tiny)
    with pytest.raises(AlreadyExists, match="expected a new or empty folder"):
        write_checkpoint("tiny", tiny)
    assert file_bytes(tiny) == before


def test_unknown_preset_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="expected one of tiny, mid, full, found 'huge'"):
        preset_config("huge")
