"""Recordings are of reply voices, of speakers to clone, reserved or kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from train.corpus.clip_index import Clip, Role, append
from train.corpus.vocabulary import nano_tokenizer
from train.speech.examples import CodedRecording
from train.speech.recordings import PROMPT_WEIGHT, load_recordings


def test_recordings_are_of_reply_voices_reserved_of_speakers_or_kept(tmp_path: Path) -> None:
    codes: dict[str, np.ndarray] = {}

    def add(part: str, voice: str, role: Role, text: str, *, held_out: bool = False, coded: bool = True) -> None:
        path = f"{part}/{voice}/{role}-{text}.wav"
        append(tmp_path / "audio" / f"{part}.jsonl", Clip(path, voice, text, role, None, 1.0, held_out))
        if coded:
            codes[path] = np.full((13, 8), len(codes), dtype=np.int16)
            codes[f"{path}@960"] = np.full((13, 8), 100, dtype=np.int16)

    prompts = [f"This is prompt number {i}." for i in range(4)]
    for voice in ("amber", "dale"):
        add("replies", voice, "reply", "The museum opens at nine.")
        for text in prompts:
            add("replies", voice, "prompt", text)
    add("replies", "stranger", "prompt", prompts[3], held_out=True)
    for text in prompts[:2]:
        add("speakers", "kept", "prompt", text, held_out=True)
    add("speakers", "mixture", "prompt", prompts[1])
    add("speakers", "mixture", "reply", "The museum opens at nine.")
    add("speakers", "with_one_clip", "reply", "The museum opens at nine.")
    for path in (f"reply-{'The museum opens at nine.'}", f"prompt-{prompts[2]}"):
        codes[f"replies/amber/{path}.wav~0.84"] = np.full((9, 8), 300, dtype=np.int16)
    add("speakers", "not_coded", "prompt", prompts[1], coded=False)
    save_file(codes, tmp_path / "codes.safetensors")

    found = load_recordings(tmp_path, nano_tokenizer())

    def counts(of: Mapping[str, Sequence[CodedRecording]]) -> dict[str, int]:
        return {voice: len(clips) for voice, clips in of.items()}

    assert counts(found.replies) == {"amber": 3, "dale": 3}
    assert counts(found.reserved) == {"amber": 2, "dale": 2}
    assert counts(found.speakers) == {"mixture": 2, "amber~0.84": 2}
    assert counts(found.kept) == {"kept": 2}
    first = found.replies["amber"][0]
    assert [int(codes[0, 0]) for codes in first.variants] == [0, 100]
    assert nano_tokenizer().decode(list(first.token_ids)) == "The museum opens at nine."
    assert [clip.weight for clip in found.speakers["mixture"]] == [PROMPT_WEIGHT, 1.0]


def test_no_codes_names_the_stage_that_makes_them(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"python -m train\.codec\.codes"):
        load_recordings(tmp_path, nano_tokenizer())
