"""The encoder learns the components of toy sound within seconds, and only its own weights change."""

from __future__ import annotations

import torch

from tests.support.toy_codec import budget, toy_codec
from train.codec.crops import CodedClip, CropSource
from train.codec.encoder import EncoderTargets, calibrate, train_encoder
from train.codec.mimi import encoder_half
from train.codec.patch_quantizer import PatchQuantizer


def test_unexplained_share_falls_and_only_the_encoder_changes(toy: tuple[PatchQuantizer, list[CodedClip]]) -> None:
    quantizer, clips = toy
    model = toy_codec(quantizer)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    targets = EncoderTargets(CropSource(clips, frames=7, seed=0), quantizer, seed=0, device="cpu")
    calibrate(model, targets, quantizer, batch=4)
    unexplained = train_encoder(model, targets, quantizer, budget(), batch=4, save=lambda: None)
    assert sum(unexplained[-5:]) < 0.8 * sum(unexplained[:5])
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == {f"encoder.{name}" for name, _ in encoder_half(model).named_parameters()} | {
        f"quantizer.{kind}_residual_vector_quantizer.input_proj.weight" for kind in ("semantic", "acoustic")
    }
