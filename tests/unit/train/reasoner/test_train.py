"""The stage on a toy domain: it learns from sound files and is validated with held-out recordings."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch

from tests.support.tiny_reasoner import TinyReasoner
from train.corpus.clip_index import Clip
from train.corpus.domain import Domain, Intent
from train.hearing.auxiliary_tasks import AuxiliaryHeads, subject_numbers
from train.hearing.clip_features import Recording
from train.hearing.recordings import ClipReader
from train.optim.training_loop import Budget
from train.reasoner.conversation_batch import ConversationBatch, join
from train.reasoner.conversation_feed import ConversationFeed
from train.reasoner.train import train_reasoner
from train.reasoner.validation import ValidationSet

DOMAIN = Domain(
    intents=tuple(
        Intent(name, "tones", answer, (f"{name} tone",), (f"a {name} tone",))
        for name, answer in (("low", "Good morning."), ("middle", "It is time to go home."), ("high", "No."))
    ),
    outside=("what else",),
    outside_held_out=("who else",),
    outside_answer="I think so.",
    greeting="Hello.",
    repeat=("again",),
    repeat_held_out=("once more",),
    prompts=("Some rain.",),
)
SUBJECTS = subject_numbers(DOMAIN)
HZ = {"low": 150.0, "middle": 600.0, "high": 2_400.0}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> TinyReasoner:
    return TinyReasoner(tmp_path_factory.mktemp("tiny") / "checkpoint")


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Clip], Path]:
    """Four recordings of each tone; the third voice is held out."""
    folder = tmp_path_factory.mktemp("audio")
    made: list[Clip] = []
    for (name, hz), number in itertools.product(HZ.items(), range(4)):
        seconds = np.arange(8_000) / 16_000
        path = f"{name}-{number}.wav"
        sf.write(folder / path, 0.2 * np.sin(2 * np.pi * hz * (1 + 0.01 * number) * seconds), 16_000)
        made.append(Clip(path, f"voice{number}", f"{name} tone", "question", name, 0.5, number == 2))
    return made, folder


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


def test_toy_questions_are_learnt_and_answered_in_a_voice_never_heard(
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


def test_feed_gives_groups_of_the_size_asked_for_and_never_a_held_out_clip(
    tiny: TinyReasoner, clips: tuple[list[Clip], Path]
) -> None:
    listed, folder = clips
    trained = [clip for clip in listed if not clip.held_out]
    feed = ConversationFeed(
        tiny.config, tiny.tokenizer, DOMAIN, lambda: trained, ClipReader(folder), batch=10, group=4, seed=0
    )
    (step, other), (again, _) = list(itertools.islice(feed, 2)), list(itertools.islice(feed, 2))
    assert [len(group.ids) for group in step] == [4, 4, 2]
    assert [group.ids.shape[1] for group in step] == sorted(group.ids.shape[1] for group in step)
    for group in step:
        assert len(group.audio_at) == int(group.clips.embedding_counts.sum())
        assert len(group.clips.letters) == int(group.clips.letter_counts.sum())
    assert all(
        torch.equal(one.ids, two.ids) and torch.equal(one.clips.mel, two.clips.mel)
        for one, two in zip(step, again, strict=True)
    )
    assert not torch.equal(step[0].targets, other[0].targets)


def test_recording_of_another_rate_is_refused(tmp_path: Path) -> None:
    sf.write(tmp_path / "a.wav", np.zeros(800), 24_000)
    with pytest.raises(ValueError, match=r"a\.wav: expected 16000 Hz, found 24000"):
        ClipReader(tmp_path).read(Clip("a.wav", "voice", "a", "question", "low", 0.1, False))


def test_what_is_new_in_a_question_is_told_apart(tiny: TinyReasoner, clips: tuple[list[Clip], Path]) -> None:
    listed, folder = clips
    path = listed[0].path
    asked = [
        Clip(path, "voice2", "low tone", "question", "low", 0.5, True),
        Clip(path, "voice0", "a low tone", "question", "low", 0.5, True),
        Clip(path, "voice2", "a low tone", "question", "low", 0.5, True),
    ]
    validation = ValidationSet(tiny.config, tiny.tokenizer, DOMAIN)
    validation.add_clips([*(clip for clip in listed if not clip.held_out), *asked], folder, most=10)
    assert {(one.voice, one.text): one.new for one in validation.questions} == {
        ("voice2", "low tone"): "voice",
        ("voice0", "a low tone"): "phrasing",
        ("voice2", "a low tone"): "voice and phrasing",
    }
    assert validation.questions[0].reply == "Good morning."
