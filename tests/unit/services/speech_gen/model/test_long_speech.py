"""Replies longer than the model's positions: parted before a sentence, nothing lost, nothing carried over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from services.runtime.engine.stream import End
from services.runtime.kvcache.paged_kv import PagedKV
from services.speech_gen.model.generator import Generator, Thought
from services.speech_gen.model.speak import Recording, speak
from services.speech_gen.model.speech import EndReason, Frame, Speech, SpeechEnd
from services.speech_gen.model.text_breaks import TextBreaks
from services.speech_gen.runner import SpeechRunner
from services.speech_gen.work import Output, SpeechStream
from tests.support.golden_speech import single_rows, small_tokenizer

SENTENCES = ["Take the water.", " Then wait!", " Salt it!", " Is it done?"]


@pytest.fixture
def short(generator: Generator) -> Generator:
    """The golden model with 240 positions behind its prompt of 31 rows: segments of at most 39 thoughts."""
    kv = PagedKV(generator.kv.config, slots=2, pages=40, dtype=torch.float32, max_positions=31 + 240)
    return Generator(generator.backbone, generator.decoder, kv, eos=generator.eos, im_end=generator.im_end)


def thoughts_of(text: str) -> list[Thought]:
    """Thoughts that spell `text`, with the hidden states of a golden reply over and over."""
    hidden = [thought.hidden for thought in single_rows()["basic_audio"].thoughts]
    ids = small_tokenizer().encode(text)
    return [Thought(token_id, hidden[i % len(hidden)], i == len(ids) - 1) for i, token_id in enumerate(ids)]


def say(generator: Generator, thoughts: Sequence[Thought], max_frames: int) -> tuple[Recording, SpeechEnd]:
    request = replace(single_rows()["basic_audio"].request(generator), max_frames=max_frames)
    spoken = speak(generator, request, thoughts, TextBreaks(small_tokenizer()))
    assert spoken.end is not None
    return spoken, spoken.end


def starts(spoken: Recording) -> list[int]:
    """The frames that begin with the zero row."""
    return [frame for frame, rows in enumerate(spoken.rows[1:]) if not rows[0].any()]


def test_every_segment_is_a_speech_of_its_own_from_the_voice_prompt(short: Generator) -> None:
    thoughts = thoughts_of("".join(SENTENCES * 3))
    spoken, end = say(short, thoughts, 10_000)
    begins = starts(spoken)
    assert end.restarts == len(begins) - 1 >= 2
    assert end.thoughts == len(thoughts)
    assert [frame.index for frame in spoken.frames] == list(range(end.frames))
    first = 0
    for begin, until in zip(begins, [*begins[1:], end.frames], strict=True):
        fed = [rows for rows in spoken.rows[1 + begin : 1 + until] if len(rows) == 3]
        closes = until != end.frames
        count = len(fed) - closes
        if closes:
            closing = Thought(short.im_end, thoughts[first + count].hidden, last=True)
            assert fed[-1][2].equal(short.backbone.text_rows(torch.tensor([short.im_end]))[0])
            part = [*thoughts[first : first + count], closing]
        else:
            part = thoughts[first:]
        alone, _ = say(short, part, until - begin)
        assert [frame.codes for frame in alone.frames] == [frame.codes for frame in spoken.frames[begin:until]]
        first += count
    assert first == len(thoughts)


def test_segments_begin_with_sentences(short: Generator) -> None:
    text = "".join(SENTENCES * 3)
    spoken, _ = say(short, thoughts_of(text), 10_000)
    spellings = [*SENTENCES, *(sentence.strip() for sentence in SENTENCES)]
    firsts = short.backbone.text_rows(torch.tensor([small_tokenizer().encode(spelling)[0] for spelling in spellings]))
    begins = starts(spoken)
    assert len(begins) > 1
    for begin in begins:
        assert (firsts == spoken.rows[1 + begin][2]).all(dim=1).any()


def test_reply_of_fewer_thoughts_than_two_thirds_of_a_segment_is_never_parted(short: Generator) -> None:
    thoughts = thoughts_of("".join(SENTENCES * 2))[:26]
    _, end = say(short, thoughts, 100)
    assert (end.restarts, end.frames) == (0, 100)


def test_text_without_end_still_ends_where_the_frames_do(short: Generator) -> None:
    spoken, end = say(short, thoughts_of("water " * 200), 600)
    assert (end.reason, end.frames, len(spoken.frames)) == (EndReason.MAX_FRAMES, 600, 600)
    assert end.restarts >= 2


def test_eos_while_closing_begins_the_next_segment_and_is_not_heard(short: Generator) -> None:
    request = replace(single_rows()["basic_audio"].request(short), max_frames=1000)
    slot = short.open(request.sampling)
    short.prefill([slot], [request.voice.rows[:-1]])
    speech = Speech(request, slot, 0, short, TextBreaks(small_tokenizer()))
    (held,) = thoughts_of("a")
    speech.part_before(held)
    short.frame([], [slot], [held])
    assert not speech.wants_thought
    assert speech.hear(np.zeros(8, dtype=np.int64)) == []
    assert speech.restarts == 1
    assert speech.wants_thought
    assert short.kv.lengths[slot] == 31
    (frame,) = speech.hear(np.ones(8, dtype=np.int64))
    assert not isinstance(frame, SpeechEnd)
    assert frame.index == 0
    (end,) = speech.hear(np.zeros(8, dtype=np.int64))
    assert isinstance(end, SpeechEnd)
    assert (end.reason, end.restarts) == (EndReason.EOS, 1)
    short.close(slot)


async def test_long_replies_in_company_are_what_they_are_alone_and_leave_nothing(short: Generator) -> None:
    """One voice, so one of the two streams begins in pages that the other goes on writing behind and cuts back."""
    thoughts = thoughts_of("".join(SENTENCES * 2))
    request = replace(single_rows()["basic_audio"].request(short), max_frames=180)
    alone, _ = say(short, thoughts, 180)
    runner = SpeechRunner(short, small_tokenizer())
    heard: dict[SpeechStream, list[Output | End]] = {}
    for delay in (0, 7):
        for _ in range(delay):
            step(runner, heard)
        stream = SpeechStream(request, inbox_items=64, outbox_items=1024)
        stream._wake_engine = lambda: None
        runner.admit(stream)
        stream.inbox.extend(thoughts)
        heard[stream] = []
    while step(runner, heard):
        pass
    for outputs in heard.values():
        *frames, end, _ = outputs
        assert isinstance(end, SpeechEnd)
        assert end.restarts == 1
        assert [frame.codes for frame in frames if isinstance(frame, Frame)] == [frame.codes for frame in alone.frames]
    assert runner.shared_prompts.evict_one()
    assert (short.kv.free_slots, short.kv.free_pages) == (2, 40)


def step(runner: SpeechRunner, heard: dict[SpeechStream, list[Output | End]]) -> bool:
    batch = runner.schedule(0.0)
    if batch is None:
        return False
    for stream, output in runner.step(batch):
        heard[stream].append(output)
        if isinstance(output, End):
            runner.release(stream)
    return True
