"""The decoder's auxiliary heads train its early layers, and frames of context do not count."""

from __future__ import annotations

import torch

from tests.support.toy_codec import toy_codec
from tests.support.toy_speech import toy_quantizer
from train.codec.auxiliary_heads import MelHeads
from train.codec.mimi import decode_codes


def test_the_loss_has_gradients_in_the_heads_and_does_not_depend_on_the_context() -> None:
    quantizer, clips = toy_quantizer(width=16, codebook_size=16, clips=2)
    model = toy_codec(quantizer)
    heads = MelHeads(model)
    codes = clips[0].codes[None, :6]
    wanted = torch.from_numpy(clips[0].pcm[: 6 * 1920]).float()[None] / 32_768
    changed = torch.cat([torch.zeros(1, 1920), wanted[:, 1920:]], dim=1)
    losses = []
    for waveform in (wanted, changed):
        decode_codes(model, codes)
        losses.append(heads(waveform, 2))
    torch.testing.assert_close(losses[0], losses[1])
    losses[0].backward()
    gradients = [parameter.grad for parameter in heads.parameters()]
    assert all(gradient is not None and gradient.abs().sum() > 0 for gradient in gradients)
