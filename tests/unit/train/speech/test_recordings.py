"""Recordings are targets, prompts or reserved."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from train.corpus.clip_index import Clip, append
from train.corpus.vocabulary import nano_tokenizer
from train.speech.recordings import load_recordings


def test_recordings_are_targets_reserved_prompts_or_prompts_of_strangers(tmp_path: Path) -> None:
    codes = {}
    texts = [("reply", "The museum opens at nine."), *(("prompt", f"This is prompt number {i}.") for i in range(4))]
    for name in ("amber", "dale", "kokoro_af_kore", "between"):
        for index, (role, text) in enumerate(texts):
            if name not in {"amber", "dale"} and role == "reply":
                continue
            path = f"replies/{name}/{index}.wav"
            clip = Clip(path, name, text, "reply" if role == "reply" else "prompt", None, 1.0, held_out=False)
            append(tmp_path / "audio" / "replies.jsonl", clip)
            codes[path] = np.full((13, 8), index, dtype=np.int16)
            codes[f"{path}@960"] = np.full((13, 8), 100 + index, dtype=np.int16)
    save_file(codes, tmp_path / "codes.safetensors")
    found = load_recordings(tmp_path, nano_tokenizer())
    assert {voice: len(clips) for voice, clips in found.replies.items()} == {"amber": 3, "dale": 3}
    assert {voice: len(clips) for voice, clips in found.reserved.items()} == {"amber": 2, "dale": 2}
    assert {voice: [len(clips) for clips in others] for voice, others in found.strangers.items()} == {"amber": [4]}
    first = found.replies["dale"][0]
    assert [int(codes[0, 0]) for codes in first.variants] == [0, 100]
    assert nano_tokenizer().decode(list(first.token_ids)) == "The museum opens at nine."


def test_no_codes_names_the_stage_that_makes_them(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"python -m train\.codec\.codes"):
        load_recordings(tmp_path, nano_tokenizer())
