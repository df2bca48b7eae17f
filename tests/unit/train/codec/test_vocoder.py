"""The vocoder learns toy sound within seconds, and only its own weights change."""

from __future__ import annotations

import torch

from tests.support.toy_codec import budget, toy_codec
from train.codec.crops import CodedClip, CropSource
from train.codec.mimi import decoder_half
from train.codec.patch_quantizer import PatchQuantizer
from train.codec.vocoder import DELAY_SAMPLES, delayed, train_vocoder


def test_vocoder_distance_falls_and_only_the_decoder_changes(toy: tuple[PatchQuantizer, list[CodedClip]]) -> None:
    quantizer, clips = toy
    model = toy_codec(quantizer)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    distances = train_vocoder(model, CropSource(clips, frames=6, seed=0), budget(), batch=4, save=lambda: None)
    assert sum(distances[-5:]) < 0.8 * sum(distances[:5])
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == {f"decoder.{name}" for name, _ in decoder_half(model).named_parameters()} | {
        f"quantizer.{kind}_residual_vector_quantizer.output_proj.weight" for kind in ("semantic", "acoustic")
    }


def test_vocoder_keeps_the_end_code_silent(toy: tuple[PatchQuantizer, list[CodedClip]]) -> None:
    quantizer, clips = toy
    model = toy_codec(quantizer)
    train_vocoder(model, CropSource(clips, frames=6, seed=0), budget(max_steps=3), batch=2, save=lambda: None)
    end = model.quantizer.semantic_residual_vector_quantizer.decode(torch.zeros(1, 1, 1, dtype=torch.int64))
    assert not end.any()


def test_delayed_sound_begins_with_silence_and_loses_its_end() -> None:
    pcm = torch.randn(2, 1920)
    late = delayed(pcm)
    assert late.shape == pcm.shape
    assert not late[:, :DELAY_SAMPLES].any()
    assert torch.equal(late[:, DELAY_SAMPLES:], pcm[:, :-DELAY_SAMPLES])
