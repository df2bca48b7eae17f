"""Vocoder and encoder learn toy sound within seconds."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import MimiModel

from checkpoints.presets import preset_config
from tests.support.toy_speech import toy_quantizer
from train.codec.artefact import new_codec
from train.codec.crops import CodedClip, CropSource
from train.codec.encoder import EncoderTargets, calibrate, train_encoder
from train.codec.mimi import decoder_half, encoder_half
from train.codec.patch_quantizer import PatchQuantizer
from train.codec.vocoder import DELAY_SAMPLES, delayed, train_vocoder
from train.optim.training_loop import Budget

SIZE = 16
STEPS = 40


@pytest.fixture(scope="module")
def toy() -> tuple[PatchQuantizer, list[CodedClip]]:
    return toy_quantizer(width=16, codebook_size=SIZE)


def toy_codec(quantizer: PatchQuantizer) -> MimiModel:
    config: dict[str, Any] = {**preset_config("tiny")["codec_config"], "codebook_size": SIZE, "sliding_window": 16}
    torch.manual_seed(0)
    model = new_codec(config)
    quantizer.install(model)
    return model


def steps() -> Budget:
    return Budget(minutes=10, peak_rate=4e-3, warm_up_steps=5, max_steps=STEPS)


def test_vocoder_distance_falls_and_only_the_decoder_changes(toy: tuple[PatchQuantizer, list[CodedClip]]) -> None:
    quantizer, clips = toy
    model = toy_codec(quantizer)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    distances = train_vocoder(model, CropSource(clips, frames=6, seed=0), steps(), batch=4, save=lambda: None)
    assert sum(distances[-5:]) < 0.8 * sum(distances[:5])
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == {f"decoder.{name}" for name, _ in decoder_half(model).named_parameters()} | {
        f"quantizer.{kind}_residual_vector_quantizer.output_proj.weight" for kind in ("semantic", "acoustic")
    }


def test_vocoder_keeps_the_end_code_silent(toy: tuple[PatchQuantizer, list[CodedClip]]) -> None:
    quantizer, clips = toy
    model = toy_codec(quantizer)
    budget = Budget(minutes=10, peak_rate=4e-3, max_steps=3)
    train_vocoder(model, CropSource(clips, frames=6, seed=0), budget, batch=2, save=lambda: None)
    end = model.quantizer.semantic_residual_vector_quantizer.decode(torch.zeros(1, 1, 1, dtype=torch.int64))
    assert not end.any()


def test_encoder_comes_to_explain_the_components(toy: tuple[PatchQuantizer, list[CodedClip]]) -> None:
    quantizer, clips = toy
    model = toy_codec(quantizer)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    targets = EncoderTargets(CropSource(clips, frames=7, seed=0), quantizer, seed=0, device="cpu")
    calibrate(model, targets, quantizer, batch=4)
    unexplained = train_encoder(model, targets, quantizer, steps(), batch=4, save=lambda: None)
    assert sum(unexplained[-5:]) < 0.8 * sum(unexplained[:5])
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == {f"encoder.{name}" for name, _ in encoder_half(model).named_parameters()} | {
        f"quantizer.{kind}_residual_vector_quantizer.input_proj.weight" for kind in ("semantic", "acoustic")
    }


def test_voiced_sound_lags_the_codes() -> None:
    pcm = torch.randn(2, 1920)
    late = delayed(pcm)
    assert late.shape == pcm.shape
    assert not late[:, :DELAY_SAMPLES].any()
    assert torch.equal(late[:, DELAY_SAMPLES:], pcm[:, :-DELAY_SAMPLES])
