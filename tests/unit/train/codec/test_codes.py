"""Clips come with the codes of each lead, and held-out clips are left out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file, save_file

from tests.support.toy_speech import toy_pcm, toy_quantizer
from train.codec.coder import LEADS, code_key, read_pcm
from train.codec.codes import REPLY_VOICES_SHARE, load_coded_clips, load_quantizer, patches_of
from train.corpus.clip_index import Clip, append
from train.corpus.copies import Spoken


def clip(name: str, *, held_out: bool = False) -> Clip:
    return Clip(f"replies/{name}.wav", name, "A sentence.", "reply", None, 1.0, held_out)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A working folder with three clips of a second, the last one held out, and arbitrary codes for them."""
    (tmp_path / "audio" / "replies").mkdir(parents=True)
    codes = {}
    for number, listed in enumerate((clip("amber"), clip("basil"), clip("coral", held_out=True))):
        soundfile.write(tmp_path / "audio" / listed.path, toy_pcm(number, seconds=1.0), 24_000)
        append(tmp_path / "audio" / "replies.jsonl", listed)
        for lead in LEADS:
            codes[code_key(Spoken(listed), lead)] = torch.full((13, 8), 10 * number + bool(lead), dtype=torch.int16)
    save_file(codes, tmp_path / "codes.safetensors")
    return tmp_path


def test_each_clip_is_there_once_for_each_lead_but_held_out_ones_are_not(root: Path) -> None:
    coded = load_coded_clips(root)
    assert [int(one.codes[0, 0]) for one in coded] == [0, 1, 10, 11]
    assert all(len(one.pcm) == 13 * 1920 for one in coded)
    assert not coded[1].pcm[:960].any()
    assert np.array_equal(coded[1].pcm[960 : 960 + 24_000], coded[0].pcm[:24_000])
    assert not coded[0].pcm[24_000:].any()


def test_clips_without_codes_are_left_out(root: Path) -> None:
    append(root / "audio" / "replies.jsonl", clip("dale"))
    assert len(load_coded_clips(root)) == 4


def test_reply_voices_have_their_share_however_many_speakers_there_are(root: Path) -> None:
    codes = load_file(root / "codes.safetensors")
    for number in range(3):
        listed = replace(clip(f"speaker_{number}"), path=f"speakers/{number}.wav")
        (root / "audio" / "speakers").mkdir(exist_ok=True)
        soundfile.write(root / "audio" / listed.path, toy_pcm(number, seconds=1.0), 24_000)
        append(root / "audio" / "speakers.jsonl", listed)
        codes |= {code_key(Spoken(listed), lead): torch.full((13, 8), 99, dtype=torch.int16) for lead in LEADS}
    save_file(codes, root / "codes.safetensors")
    coded = load_coded_clips(root)
    weights = [one.weight for one in coded]
    assert sum(weights[:4]) / sum(weights) == pytest.approx(REPLY_VOICES_SHARE)
    assert len(coded) == 10


def test_copies_with_codes_count_among_the_others(root: Path) -> None:
    codes = load_file(root / "codes.safetensors")
    slower = Spoken(clip("amber"), 0.84)
    codes |= {code_key(slower, lead): torch.full((15, 8), 77, dtype=torch.int16) for lead in LEADS}
    save_file(codes, root / "codes.safetensors")
    coded = load_coded_clips(root)
    assert [int(one.codes[0, 0]) for one in coded] == [0, 1, 10, 11, 77, 77]
    assert [len(one.pcm) // 1920 for one in coded[-2:]] == [15, 16], "a second of sound lasts 1.19 s"


def test_patches_have_a_row_for_each_frame_and_lead(root: Path) -> None:
    found = [(one.voice, lead, rows.shape) for one, lead, rows in patches_of(root / "audio", [clip("basil")])]
    assert found == [("basil", lead, (13, 320)) for lead in LEADS]


def test_a_stored_quantizer_gives_the_same_codes(tmp_path: Path) -> None:
    quantizer, _ = toy_quantizer(width=8, codebook_size=8, clips=2)
    save_file(quantizer.tensors(), tmp_path / "quantizer.safetensors")
    components = torch.randn(20, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(load_quantizer(tmp_path).encode(components), quantizer.encode(components))


def test_a_copy_is_played_faster(root: Path) -> None:
    one = clip("amber")
    assert len(read_pcm(root / "audio", Spoken(one, 1.2))) == pytest.approx(24_000 / 1.2, abs=2)


def test_a_clip_of_another_rate_is_refused(tmp_path: Path) -> None:
    (tmp_path / "replies").mkdir()
    soundfile.write(tmp_path / "replies" / "amber.wav", np.zeros(160), 16_000)
    with pytest.raises(ValueError, match=r"amber\.wav: expected mono at 24000 Hz, got 1 axes at 16000 Hz"):
        read_pcm(tmp_path, Spoken(clip("amber")))


def test_the_stage_is_named_when_its_files_are_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"not there; run python -m train\.codec\.codes"):
        load_quantizer(tmp_path)
