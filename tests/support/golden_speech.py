"""The recorded speeches of the reference: inputs and expected frames. (docs/model.md, section 10)"""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch

from checkpoints.presets import special_tokens
from checkpoints.tokenizer_files import vocabulary_for, write_tokenizer_files
from services.codec.model.mimi import Mimi
from services.common.sampling import SamplingParams
from services.runtime.checkpoint.checkpoint import Checkpoint
from services.runtime.checkpoint.config import ChromaConfig
from services.runtime.checkpoint.tokenizer import Tokenizer
from services.speech_gen.messages import SpeechRequest
from services.speech_gen.model.generator import Generator, ThoughtInput
from services.speech_gen.model.voice import enroll
from tests.support.golden_checkpoint import golden_checkpoint
from tests.support.golden_files import load_golden
from tests.support.paths import PUBLIC_GOLDEN

GOLDEN = PUBLIC_GOLDEN
CHECKPOINT = golden_checkpoint()
SINGLE_CASES = [
    "basic_audio",
    "thinker_eos_early",
    "audio_eos_dropped",
    "audio_eos_partial",
    "text_only",
    "two_audios",
]


@dataclass(frozen=True)
class Row:
    """One row of a recorded batch: a speech.

    `codes` [T, K] and `token_ids` are the voice prompt's; `frames` [T, K] is the expected output.
    """

    name: str
    codes: np.ndarray
    token_ids: list[int]
    thoughts: list[ThoughtInput]
    max_frames: int
    frames: list[tuple[int, ...]]
    margin: float
    """The smallest difference between the logits of the two likeliest codes in this speech."""

    def request(self, generator: Generator, *, max_lead_s: float | None = None) -> SpeechRequest:
        """The request that opens this speech. It is greedy, as the reference was."""
        voice = enroll(generator.backbone, golden_config().tokens, self.codes, self.token_ids)
        return SpeechRequest(voice, SamplingParams(greedy=True), self.max_frames, max_lead_s)


@cache
def golden_config() -> ChromaConfig:
    return ChromaConfig.from_dict(Checkpoint.open(CHECKPOINT).config)


@cache
def small_tokenizer() -> Tokenizer:
    """A tokenizer whose ids the golden model knows. The golden checkpoint has no tokenizer."""
    specials = special_tokens("tiny")
    with tempfile.TemporaryDirectory() as folder:
        write_tokenizer_files(Path(folder), vocabulary_for(specials, qwen_file=None), specials, mel_bins=128)
        return Tokenizer.from_checkpoint(Checkpoint(Path(folder), {}, {}, {}))


@cache
def tensors(case: str) -> dict[str, torch.Tensor]:
    """All tensors of a case, by name."""
    return load_golden(GOLDEN, case)


@cache
def single_rows() -> dict[str, Row]:
    """The cases with one row, by name."""
    return {case: _row(case, 0, tensors(case)["out.prompt_audio_codes"][0].T.numpy()) for case in SINGLE_CASES}


@cache
def all_rows() -> list[Row]:
    """The cases with one row, and both rows of the case with two. Each row is recorded as it is when it runs alone."""
    mimi = Mimi.load(Checkpoint.open(CHECKPOINT))
    batch = tensors("batch2_leftpad")
    lengths = batch["in.input_values_cutoffs"].tolist()
    prompts = [mimi.encode(batch["in.input_values"][b, 0, : lengths[b]].numpy()) for b in range(2)]
    return [*single_rows().values(), *(_row("batch2_leftpad", b, prompts[b].astype(np.int64)) for b in range(2))]


def _row(case: str, b: int, codes: np.ndarray) -> Row:
    golden, meta = tensors(case), json.loads((GOLDEN / f"{case}.json").read_text())
    im_end = golden_config().tokens.im_end
    token_ids = golden["out.thinker_token_ids"][b].tolist()
    if im_end in token_ids:
        token_ids = token_ids[: token_ids.index(im_end) + 1]
    hidden = golden["out.thinker_last_hidden"][b]
    alone = case != "batch2_leftpad"
    frames = golden["out.frames"][b] if alone else tensors("batch2_rows_alone")[f"row{b}.frames"]
    return Row(
        name=case if alone else f"{case}-{b}",
        codes=codes,
        token_ids=golden["in.input_ids"][b][golden["in.attention_mask"][b].bool()].tolist(),
        thoughts=[ThoughtInput(token_id, hidden[i], token_id == im_end) for i, token_id in enumerate(token_ids)],
        max_frames=meta["max_new_tokens"],
        frames=[tuple(frame) for frame in frames.tolist()],
        margin=min(meta["min_top2_margin"]["codebook0"], meta["min_top2_margin"]["decoder"]),
    )
