"""The artefact `codec.safetensors`: the whole codec. The stages `vocoder` and `encoder` each train one half of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import MimiModel

from train.codec.mimi import build_mimi, codec_tensors, decoder_half, load_codec
from train.codec.patch_quantizer import PatchQuantizer
from train.optim.training_loop import load_artefact, save_artefact
from train.pack.config import nano_config

ARTEFACT = "codec.safetensors"

_LAST_LAYER_SCALE = 0.05
"""Initial scale of the decoder's last convolution: the first output is near silence, not noise above full scale."""


def open_codec(root: Path, quantizer: PatchQuantizer, *, resume: bool) -> MimiModel:
    """The codec with this quantizer's codebooks. The other weights are new, or the artefact's with `resume`.

    Raises `FileNotFoundError` for `resume` without an artefact.
    """
    model = new_codec(nano_config()["codec_config"])
    if resume:
        load_codec(model, load_artefact(root / ARTEFACT))
    quantizer.install(model)
    return model


def new_codec(codec_config: Mapping[str, Any]) -> MimiModel:
    """A codec with initial weights for training."""
    model = build_mimi(codec_config)
    with torch.no_grad():
        decoder_half(model).decoder_seanet.layers[-1].get_parameter("conv.weight").mul_(_LAST_LAYER_SCALE)
    return model


def save_codec(root: Path, model: MimiModel) -> None:
    """Write the whole codec under its published names."""
    save_artefact(root / ARTEFACT, codec_tensors(model))
