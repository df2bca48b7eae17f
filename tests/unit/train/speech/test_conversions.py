"""Conversions: who imitates a speaker, and what the imitator's codes become."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tests.support.toy_speech import toy_quantizer
from train.codec.patch_quantizer import PatchQuantizer
from train.corpus.clip_index import Clip, append
from train.corpus.vocabulary import nano_tokenizer
from train.speech.conversions import Conversions, Performance, TokenIds, VoiceFigures, load_conversions

SENTENCE: TokenIds = (5, 6, 7)


@pytest.fixture
def quantizer() -> PatchQuantizer:
    return toy_quantizer(width=8, codebook_size=8, clips=2)[0]


def said(seed: int) -> Performance:
    components = torch.randn(6, 8, generator=torch.Generator().manual_seed(seed))
    return Performance(components, torch.tensor([0.0, 0.5, 1.0, 1.0, 1.0, 0.0]))


def figures(angle: float, mean: float) -> VoiceFigures:
    return VoiceFigures(torch.tensor([np.cos(angle), np.sin(angle)], dtype=torch.float32), torch.full((8,), mean))


def test_the_nearest_copy_imitates_a_speaker_with_the_speakers_mean(quantizer: PatchQuantizer) -> None:
    performances = {"amber": {SENTENCE: said(1)}, "amber~1.2": {SENTENCE: said(2)}}
    voices = {"amber": figures(0.0, 0.0), "amber~1.2": figures(1.0, 0.5), "speaker": figures(0.8, 2.0)}
    conversions = Conversions(quantizer, performances, voices)
    assert conversions.nearest("speaker") == "amber~1.2"
    one = said(2)
    wanted = quantizer.encode(one.components + 1.5 * one.loud[:, None])
    found = conversions.codes("speaker", SENTENCE)
    assert found.dtype == np.int64
    assert (found == wanted.numpy()).all()
    assert (found[[0, 5]] == quantizer.encode(one.components)[[0, 5]].numpy()).all(), "silence stays silence"


def test_a_reply_voice_imitates_itself(quantizer: PatchQuantizer) -> None:
    conversions = Conversions(quantizer, {"amber": {SENTENCE: said(1)}}, {"amber": figures(0.0, 3.0)})
    assert (conversions.codes("amber", SENTENCE) == quantizer.encode(said(1).components).numpy()).all()


def test_conversions_are_read_from_what_the_stage_codes_wrote(tmp_path: Path, quantizer: PatchQuantizer) -> None:
    text = "The museum opens at nine."
    path = "replies/amber/reply.wav"
    append(tmp_path / "audio" / "replies.jsonl", Clip(path, "amber", text, "reply", None, 1.0, False))
    stored = {}
    for number, key in enumerate((path, f"{path}~0.8")):
        one = said(number)
        stored |= {key: one.components.half(), f"{key}@loud": one.loud.half()}
    save_file(stored, tmp_path / "performances.safetensors")
    save_file(quantizer.tensors(), tmp_path / "quantizer.safetensors")
    of_voices = {"amber": figures(0.0, 0.0), "amber~0.8": figures(1.0, 0.0), "speaker": figures(0.9, 0.0)}
    save_file(
        {name: one.print for name, one in of_voices.items()}
        | {f"{name}@mean": one.mean for name, one in of_voices.items()},
        tmp_path / "voices.safetensors",
    )
    conversions = load_conversions(tmp_path, nano_tokenizer(), ["speaker"])
    assert conversions.nearest("speaker") == "amber~0.8"
    wanted = quantizer.encode(said(1).components.half().float()).numpy()
    assert (conversions.codes("speaker", tuple(nano_tokenizer().encode(text))) == wanted).all()


def test_the_stage_is_named_when_it_has_not_run(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"performances\.safetensors: not there; run"):
        load_conversions(tmp_path, nano_tokenizer(), [])
