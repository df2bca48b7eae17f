"""The stage on a toy domain: it learns from sound files and is validated with held-out recordings."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.support.tiny_reasoner import TinyReasoner
from tests.support.tones import DOMAIN, SUBJECTS
from train.corpus.clip_index import Clip
from train.hearing.auxiliary_tasks import AuxiliaryHeads
from train.hearing.clip_features import Recording
from train.hearing.recordings import ClipReader
from train.optim.training_loop import Budget
from train.reasoner.conversation_batch import ConversationBatch, join
from train.reasoner.train import train_reasoner
from train.reasoner.validation import ValidationSet


def toy_steps(tiny: TinyReasoner, clips: list[Clip], folder: Path) -> Iterator[list[ConversationBatch]]:
    """The same step over and over: each tone asked alone, the last ones after a typed question."""
    reader = ClipReader(folder)
    answers = {intent.name: intent.answer for intent in DOMAIN.intents}
    laid_out = []
    for number, clip in enumerate(clip for clip in clips if not clip.held_out):
        asked = Recording(torch.from_numpy(reader.read(clip)), clip.text, SUBJECTS[clip.intent or ""])
        before = [("low tone", answers["low"])] if number % 3 == 2 else []
        laid_out.append(tiny.layout([*before, (asked, answers[clip.intent or ""])]))
    step = [join(half, audio_id=tiny.config.tokens.audio, chunk_frames=200) for half in (laid_out[:5], laid_out[5:])]
    return itertools.repeat(step)


@pytest.mark.slow
def test_toy_questions_are_learnt_and_answered_in_a_held_out_voice(
    tiny: TinyReasoner, clips: tuple[list[Clip], Path]
) -> None:
    torch.manual_seed(0)
    model = tiny.new_model()
    validation = ValidationSet(tiny.config, tiny.tokenizer, DOMAIN)
    validation.add_clips(*clips, most=100)
    assert validation.check_replies(model).share() == 0.0
    frozen = {name: tensor.clone() for name, tensor in model.artefact().items()}
    checkpoints: list[int] = []
    budget = Budget(minutes=5.0, peak_rate=4e-3, warm_up_steps=10, max_steps=80)
    losses = train_reasoner(
        model,
        AuxiliaryHeads(48, len(SUBJECTS)),
        toy_steps(tiny, *clips),
        budget,
        checkpoint_every_s=0.0,
        checkpoint=lambda: checkpoints.append(1),
    )
    assert losses[0] > 4.0
    assert losses[-1] < 0.5
    assert len(checkpoints) == 80
    result = validation.check_replies(model)
    assert result.share("voice") == 1.0, [(one.text, one.reply) for one in result.wrong]
    assert torch.equal(frozen["thinker.model.norm.weight"], model.artefact()["thinker.model.norm.weight"])
    assert any("new voice: 100.0% of 3" in line for line in result.lines())
