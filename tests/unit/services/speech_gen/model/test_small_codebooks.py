"""A checkpoint of 512 codes a codebook: its own config decides what is drawn, taken and decoded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from checkpoints.presets import preset_config
from checkpoints.tensor_names import expected_tensors
from reference.speech import Recording, speak
from services.codec.model.mimi import Mimi
from services.common.errors import CheckpointError, InvalidArgument
from services.common.sampling import SamplingParams
from services.runtime.checkpoint.checkpoint import AUDIO_TABLE_NAMES, Checkpoint
from services.runtime.checkpoint.config import ChromaConfig
from services.speech_gen.messages import SpeechRequest
from services.speech_gen.model.generator import Generator, Thought
from services.speech_gen.model.voice import enroll
from services.speech_gen.model.weights import load_generator

CODES = 512
VOICE = np.full((2, 8), CODES - 1)


def small_config() -> dict[str, Any]:
    config = preset_config("tiny")
    config["codebook_pad_token_id"] = CODES + 2
    config["codec_config"]["codebook_size"] = CODES
    for part in ("backbone_config", "decoder_config"):
        config[part]["vocab_size"] = CODES + 3
    return config


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    folder: Path = tmp_path_factory.mktemp("small")
    noise = torch.Generator().manual_seed(0)
    shapes = expected_tensors(ChromaConfig.from_dict(small_config()))
    del shapes[AUDIO_TABLE_NAMES[0]]
    tensors = {name: torch.randn(shape, generator=noise) * 0.2 for name, shape in shapes.items()}
    tensors |= {name: torch.ones(shape) for name, shape in shapes.items() if name.endswith("cluster_usage")}
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(small_config()))
    return Checkpoint.open(folder)


@pytest.fixture(scope="module")
def small_generator(checkpoint: Checkpoint) -> Generator:
    return load_generator(checkpoint, slots=2)


@pytest.fixture(scope="module")
def mimi(checkpoint: Checkpoint) -> Mimi:
    return Mimi.load(checkpoint)


def spoken(generator: Generator, sampling: SamplingParams) -> Recording:
    voice = enroll(generator.backbone, ChromaConfig.from_dict(small_config()).tokens, VOICE, [1, 2])
    noise = torch.Generator().manual_seed(1)
    thoughts = [Thought(3 + i, torch.randn(generator.backbone.width, generator=noise), i == 3) for i in range(4)]
    return speak(generator, SpeechRequest(voice, sampling, max_frames=12), thoughts)


def test_only_codes_that_the_codec_knows_have_logits(small_generator: Generator) -> None:
    recording = spoken(small_generator, SamplingParams(greedy=True))
    logits = [*recording.codebook0_logits, *recording.decoder_logits]
    assert {tuple(row.shape) for row in logits} == {(CODES,)}


@pytest.mark.parametrize("top_k", [50, CODES, 2048, 10_000])
def test_whatever_the_top_k_what_is_spoken_can_be_decoded(top_k: int, small_generator: Generator, mimi: Mimi) -> None:
    recording = spoken(small_generator, SamplingParams(top_k=top_k, temperature=100.0, seed=7))
    codes = np.array([frame.codes for frame in recording.frames])
    assert codes.shape == (12, 8)
    assert 256 < codes.max() < CODES
    pcm = mimi.decode(codes)
    assert pcm.shape == (12 * 1920,)
    assert np.isfinite(pcm).all()


def test_a_top_k_of_all_codes_and_of_more_are_the_same(small_generator: Generator) -> None:
    all_codes = spoken(small_generator, SamplingParams(top_k=CODES, seed=7)).all_codes
    assert spoken(small_generator, SamplingParams(top_k=CODES + 1, seed=7)).all_codes == all_codes


def test_padded_steps_speak_alike(checkpoint: Checkpoint, small_generator: Generator) -> None:
    plain = load_generator(checkpoint, slots=2)
    padded = Generator(plain.backbone, plain.decoder, plain.kv, eos=plain.eos, im_end=plain.im_end, padded=True)
    sampling = SamplingParams(top_k=10_000, seed=7)
    assert spoken(padded, sampling).all_codes == spoken(small_generator, sampling).all_codes


def test_voice_codes_outside_the_codebooks_are_refused(small_generator: Generator) -> None:
    tokens = ChromaConfig.from_dict(small_config()).tokens
    with pytest.raises(InvalidArgument, match="voice codes: expected 0 to 511, got 512 to 512"):
        enroll(small_generator.backbone, tokens, np.full((2, 8), CODES), [1])


def test_frames_outside_the_codebooks_are_refused(mimi: Mimi) -> None:
    with pytest.raises(InvalidArgument, match=r"expected codes in 0\.\.511, found 512 in frame 0, codebook 0"):
        mimi.decode(np.full((1, 8), CODES))


def test_sound_becomes_codes_of_the_codebooks(mimi: Mimi) -> None:
    pcm = np.random.default_rng(0).normal(0, 0.1, 4 * 1920).astype(np.float32)
    codes = mimi.encode(pcm)
    assert codes.shape == (4, 8)
    assert codes.max() < CODES


def test_heads_of_fewer_rows_than_codes_are_refused() -> None:
    config = small_config()
    config["codec_config"]["codebook_size"] = 2048
    with pytest.raises(CheckpointError, match=r"vocab_size: expected at least 2048 .*found 515"):
        ChromaConfig.from_dict(config)


def test_more_codes_than_messages_can_name_are_refused(tmp_path: Path) -> None:
    config = preset_config("tiny")
    config["codec_config"]["codebook_size"] = 2049
    (tmp_path / "config.json").write_text(json.dumps(config))
    save_file({"unread": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match="codebook_size: expected 1 to 2048, found 2049"):
        Mimi.load(Checkpoint.open(tmp_path))
