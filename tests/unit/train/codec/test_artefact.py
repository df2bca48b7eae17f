"""The codec's artefact holds the whole codec; the quantizer's codebooks replace those of the artefact."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from checkpoints.presets import preset_config
from tests.support.toy_codec import toy_codec
from tests.support.toy_speech import toy_quantizer
from train.codec import artefact
from train.codec.artefact import new_codec, open_codec, save_codec
from train.codec.mimi import build_mimi, codec_tensors, decode_codes


def test_a_new_codec_is_much_quieter_than_a_plain_mimi() -> None:
    codes, config = torch.randint(0, 16, (1, 4, 8)), preset_config("tiny")["codec_config"]
    levels = []
    for new in (new_codec, build_mimi):
        torch.manual_seed(0)
        with torch.no_grad():
            levels.append(decode_codes(new(config), codes).std())
    assert 0 < levels[0] < 0.5 * levels[1]


def test_a_saved_codec_comes_back_with_the_quantizers_codebooks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quantizer, _ = toy_quantizer(width=16, codebook_size=16, clips=2)
    model = toy_codec(quantizer)
    codec_config = {**preset_config("tiny")["codec_config"], "codebook_size": 16, "sliding_window": 16}
    monkeypatch.setattr(artefact, "nano_config", lambda: {"codec_config": codec_config})
    save_codec(tmp_path, model)
    opened = codec_tensors(open_codec(tmp_path, quantizer, resume=True))
    for name, tensor in codec_tensors(model).items():
        torch.testing.assert_close(opened[name], tensor, atol=1e-3, rtol=1e-3)


def test_resuming_without_an_artefact_is_refused(tmp_path: Path) -> None:
    quantizer, _ = toy_quantizer(width=16, codebook_size=16, clips=2)
    with pytest.raises(FileNotFoundError, match=r"codec\.safetensors"):
        open_codec(tmp_path, quantizer, resume=True)
