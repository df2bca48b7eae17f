"""The recorded inputs and outputs of the reference, for tests of the reasoner (docs/model.md, section 10)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache

import torch

from tests.support.golden_checkpoint import golden_checkpoint
from tests.support.golden_files import load_golden
from tests.support.paths import PUBLIC_GOLDEN

GOLDEN = PUBLIC_GOLDEN
CHECKPOINT = golden_checkpoint()

SPECIAL_IDS = {
    "<|AUDIO|>": 600,
    "<|audio_bos|>": 601,
    "<|audio_eos|>": 602,
    "<|im_start|>": 607,
    "<|im_end|>": 608,
    "<|endoftext|>": 609,
}
"""Control tokens of the golden checkpoint that a conversation uses."""

AUDIO_CASES = [
    "basic_audio",
    "thinker_eos_early",
    "audio_eos_dropped",
    "audio_eos_partial",
    "batch2_leftpad",
    "two_audios",
]
CASES = [*AUDIO_CASES, "text_only"]


@cache
def load_case(case: str) -> dict[str, torch.Tensor]:
    """All tensors of a case, by name."""
    return load_golden(GOLDEN, case)


def clips_of(golden: dict[str, torch.Tensor]) -> list[torch.Tensor]:
    """The case's 16 kHz clips, float32 [S] each."""
    count = sum(name.startswith("in.audio16k.") for name in golden)
    return [golden[f"in.audio16k.{n}"] for n in range(count)]


@dataclass(frozen=True)
class Row:
    """One reply of a case, without the padding of its batch, up to and including im_end."""

    name: str
    input_ids: list[int]
    clips: list[torch.Tensor]
    token_ids: list[int]
    hidden: torch.Tensor
    """[T, D]"""
    audio_embeddings: torch.Tensor
    """[n, D], the tower's output for all clips."""

    def __str__(self) -> str:
        return self.name


def golden_rows(case: str) -> list[Row]:
    """The replies of a case. A reply must come out the same when it runs alone."""
    golden, clips = load_case(case), clips_of(load_case(case))
    im_end = json.loads((CHECKPOINT / "config.json").read_text())["im_end_token_id"]
    batch = golden["in.thinker_input_ids"].shape[0]
    embeddings = golden.get("out.audio_tower_features", torch.zeros(0, golden["out.thinker_last_hidden"].shape[-1]))
    rows: list[Row] = []
    for b in range(batch):
        kept = golden["in.thinker_attention_mask"][b].bool()
        token_ids = golden["out.thinker_token_ids"][b].tolist()
        if im_end in token_ids:
            token_ids = token_ids[: token_ids.index(im_end) + 1]
        own = clips if batch == 1 else clips[b : b + 1]
        positions = sum(((-(-clip.shape[0] // 160) - 1) // 2 + 1) // 2 for clip in own)
        rows.append(
            Row(
                name=case if batch == 1 else f"{case}-{b}",
                input_ids=golden["in.thinker_input_ids"][b][kept].tolist(),
                clips=own,
                token_ids=token_ids,
                hidden=golden["out.thinker_last_hidden"][b, : len(token_ids)],
                audio_embeddings=embeddings[:positions],
            )
        )
        embeddings = embeddings[positions:]
    return rows
