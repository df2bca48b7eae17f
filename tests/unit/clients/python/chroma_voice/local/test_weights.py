from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Literal

import pytest

from checkpoints.presets import preset_config
from checkpoints.quantizer import write_quantized
from checkpoints.report import PART_PREFIXES, inspect_checkpoint
from checkpoints.tensor_names import expected_tensors
from checkpoints.writer import write_checkpoint
from chroma_voice.local import repository
from chroma_voice.local.weights import (
    DType,
    Weights,
    choose_dtype,
    count_embeddings,
    count_parameters,
    stored_format,
)
from services.runtime.checkpoint.checkpoint import Checkpoint
from services.runtime.checkpoint.config import ChromaConfig


def write_headers(folder: Path, shapes: dict[str, tuple[int, ...]]) -> None:
    """A checkpoint of these tensors whose file has a header and no values."""
    header = json.dumps({name: {"dtype": "BF16", "shape": shape} for name, shape in shapes.items()}).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)


@pytest.fixture
def published_layout(tmp_path: Path) -> Path:
    """Headers of a checkpoint with the names and shapes of the published model."""
    write_headers(tmp_path, dict(expected_tensors(ChromaConfig.from_dict(preset_config("full")))))
    return tmp_path


def test_a_service_is_given_the_tensors_that_it_loads(tmp_path: Path) -> None:
    write_checkpoint("tiny", tmp_path / "tiny", dtype="bfloat16")
    checkpoint = Checkpoint.open(tmp_path / "tiny")
    parts = {part.name: part.parameters for part in inspect_checkpoint(checkpoint).parts}
    assert set(parts) <= {name for name, _ in PART_PREFIXES}
    embedding = checkpoint.shape("thinker.model.embed_tokens.weight")
    counted = count_parameters(tmp_path / "tiny")
    assert counted["reasoner"] == parts["audio tower"] + parts["thinker"] + parts["lm head"]
    assert counted["codec"] == parts["codec"]
    speech_gen = parts["audio table"] + parts["backbone"] + parts["depth decoder"]
    assert counted["speech_gen"] == speech_gen + embedding[0] * embedding[1]


def test_an_audio_table_stored_under_both_names_is_counted_once(tmp_path: Path) -> None:
    once = {"backbone.audio_embedding.embed_audio_tokens.weight": (8, 4), "backbone.norm": (4,)}
    write_headers(tmp_path, {**once, "decoder.audio_embedding.embed_audio_tokens.weight": (8, 4)})
    assert count_parameters(tmp_path)["speech_gen"] == 36


def test_the_published_layout_is_served_in_bfloat16_unless_asked_otherwise(published_layout: Path) -> None:
    parameters = count_parameters(published_layout)
    assert choose_dtype(DType.AUTO, parameters) is DType.BFLOAT16
    assert choose_dtype(DType.FLOAT32, parameters) is DType.FLOAT32
    in_float32 = sum(Weights(count, "float32").size_bytes for count in parameters.values())
    in_bfloat16 = sum(Weights(count, "bfloat16").size_bytes for count in parameters.values())
    assert 20e9 < in_float32 < 25e9
    assert in_bfloat16 == in_float32 / 2


def test_the_small_trained_checkpoint_stays_in_float32() -> None:
    folder = repository.trained_checkpoint()
    assert folder is not None
    parameters = count_parameters(folder)
    assert min(parameters.values()) > 0
    assert choose_dtype(DType.AUTO, parameters) is DType.FLOAT32


@pytest.mark.parametrize("content", [None, b"", b"1234", b"\xff" * 64, struct.pack("<Q", 2) + b"[]"])
def test_a_damaged_checkpoint_is_left_to_the_services_to_report(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "model.safetensors").write_bytes(content)
    assert count_parameters(tmp_path) == {}
    assert choose_dtype(DType.AUTO, {}) is DType.FLOAT32


def test_fewer_bits_shrink_all_but_the_embeddings(published_layout: Path) -> None:
    parameters, embeddings = count_parameters(published_layout), count_embeddings(published_layout)
    sizes = {
        weights: sum(
            Weights(parameters[name], "bfloat16", weights, embeddings[name]).size_bytes
            for name in ("reasoner", "speech_gen")
        )
        for weights in ("as-stored", "int8", "int4")
    }
    assert embeddings["reasoner"] == 151936 * 2048
    assert 10e9 < sizes["as-stored"] < 11.5e9
    assert 5.5e9 < sizes["int8"] < 6.5e9
    assert 3.5e9 < sizes["int4"] < 4.3e9
    assert str(Weights(1, "bfloat16", "int4")) == "int4 and bfloat16"


@pytest.mark.parametrize("bits", [8, 4])
def test_a_quantised_checkpoint_counts_as_many_weights_as_its_original(bits: Literal[4, 8], tmp_path: Path) -> None:
    write_checkpoint("tiny", tmp_path / "tiny", dtype="bfloat16")
    write_quantized(Checkpoint.open(tmp_path / "tiny"), tmp_path / "small", bits=bits)
    assert count_parameters(tmp_path / "small") == count_parameters(tmp_path / "tiny")
    assert count_embeddings(tmp_path / "small") == count_embeddings(tmp_path / "tiny")
    assert (stored_format(tmp_path / "tiny"), stored_format(tmp_path / "small")) == (None, f"int{bits}")


@pytest.mark.parametrize("content", ["", "[]", '{"quantization_config": 3}', '{"quantization_config": {"bits": []}}'])
def test_a_damaged_description_is_left_to_the_services_to_report(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_text(content)
    assert stored_format(tmp_path) is None
