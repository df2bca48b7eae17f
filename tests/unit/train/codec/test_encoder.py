"""The encoder learns the components of toy sound within seconds, and only its own weights change."""

from __future__ import annotations

import torch

from tests.support.toy_codec import budget, toy_codec
from train.codec.crops import CodedClip, CropSource
from train.codec.encoder import EncoderTargets, calibrate, train_encoder
from train.codec.mel import FramePatches
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


def test_pieces_from_afar_are_other_sounds_whose_targets_are_their_own(
    toy: tuple[PatchQuantizer, list[CodedClip]],
) -> None:
    quantizer, clips = toy

    def drawn(afar: float) -> tuple[torch.Tensor, torch.Tensor]:
        source = CropSource(clips, frames=7, seed=0)
        pcm, components, _ = EncoderTargets(source, quantizer, seed=0, device="cpu", afar=afar).draw(4)
        return pcm, components

    near, afar = drawn(0.0), drawn(1.0)
    assert near[0].shape == afar[0].shape
    assert not torch.allclose(near[0], afar[0], atol=1e-2)
    torch.testing.assert_close(afar[1], quantizer.components(FramePatches()(afar[0])))
