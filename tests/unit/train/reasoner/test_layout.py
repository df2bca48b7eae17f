"""A conversation laid out for training is the service's prompt with the replies in it."""

from __future__ import annotations

import pytest
import torch

from services.common.wire.audio import tokens_of_mel_frames
from services.reasoner.model.mel import valid_frames
from services.reasoner.model.prompt import ChatTemplate
from tests.support.rendered import encode_rendered
from tests.support.tiny_reasoner import TinyReasoner, sound
from train.hearing.auxiliary_tasks import spell
from train.hearing.clip_features import Recording
from train.reasoner.layout import UserInput


def rendered(
    tiny: TinyReasoner, turns: list[tuple[UserInput, str]], system: str | None, greeting: str | None
) -> list[int]:
    """The template applied to the whole conversation, its last reply left open."""
    tokens = tiny.config.tokens
    template = ChatTemplate(tiny.tokenizer, audio_id=tokens.audio, im_end_id=tokens.im_end)
    messages = [{"role": "system", "content": system}] if system else []
    messages += [{"role": "assistant", "content": greeting}] if greeting else []
    rows: list[int] = []
    for said, reply in turns:
        typed = {"type": "text", "text": said} if isinstance(said, str) else {"type": "audio"}
        messages += [{"role": "user", "content": [typed]}, {"role": "assistant", "content": reply}]
        rows += [] if isinstance(said, str) else [tokens_of_mel_frames(valid_frames(len(said.pcm)))]
    ids: list[int] = []
    for token in encode_rendered(tiny.tokenizer, template.render(messages)):
        ids += [token] * (rows.pop(0) if token == tokens.audio else 1)
    assert ids[-2:] == [tokens.im_end, *tiny.tokenizer.encode("\n")]
    return ids[:-2]


@pytest.mark.parametrize("system", [None, "You are brief."])
@pytest.mark.parametrize("greeting", [None, "Hello there."])
def test_rows_are_those_of_the_rendered_template(tiny: TinyReasoner, system: str | None, greeting: str | None) -> None:
    spoken = Recording(sound(2.7, seed=1), "one", 0)
    turns: list[tuple[UserInput, str]] = [(spoken, "The first."), ("and typed?", "The second."), (spoken, "The third.")]
    laid_out = tiny.layout(turns, system_prompt=system, greeting=greeting)
    assert laid_out.ids == rendered(tiny, turns, system, greeting)
    assert len(laid_out.clips) == 2


def test_targets_are_the_tokens_of_every_reply(tiny: TinyReasoner) -> None:
    replies = ["The same.", "The same.", "Another."]
    laid_out = tiny.layout([("a question", reply) for reply in replies], greeting="The same.")
    assert laid_out.targets == [token for reply in replies for token in tiny.layout.reply_ids(reply)]
    after = [laid_out.ids[at + 1] for at in laid_out.target_at[:-1]]
    assert after == laid_out.targets[:-1]
    assert laid_out.target_at[-1] == len(laid_out.ids) - 1
    assert len(set(laid_out.target_at)) == len(laid_out.targets)


def test_clips_carry_features_letters_and_subject(tiny: TinyReasoner) -> None:
    (clip,) = tiny.layout([(Recording(sound(1.0, seed=2), "Hello!", 7), "Hi.")]).clips
    assert clip.mel.shape == (100, 128)
    assert torch.equal(clip.letters, spell("hello"))
    assert clip.subject == 7
