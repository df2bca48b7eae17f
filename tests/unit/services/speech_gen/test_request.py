"""A stream's state: which frames take thoughts, when speech ends, and how a long reply is divided into segments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from reference.speech import Recording, speak
from services.common.errors import InvalidArgument
from services.runtime.kvcache.paged_kv import PagedKV
from services.speech_gen.messages import EndReason, Frame, SpeechEnd
from services.speech_gen.model.generator import Generator, ThoughtInput
from services.speech_gen.model.text_breaks import TextBreaks
from services.speech_gen.request import Request, max_positions
from tests.support.golden_speech import single_rows, small_tokenizer
from tests.support.speech_driver import SpeechDriver

SENTENCES = ["Take the water.", " Then wait!", " Salt it!", " Is it done?"]
SOUND = np.ones(8, dtype=np.int64)
EOS_FRAME = np.zeros(8, dtype=np.int64)


def new_request(generator: Generator, breaks: TextBreaks | None = None, max_frames: int | None = None) -> Request:
    message = single_rows()["basic_audio"].request(generator)
    return Request(replace(message, max_frames=max_frames or message.max_frames), 0, generator, breaks)


def thoughts_of(text: str) -> list[ThoughtInput]:
    """Thoughts that spell `text`, with the hidden states of a golden reply over and over."""
    hidden = [thought.hidden for thought in single_rows()["basic_audio"].thoughts]
    ids = small_tokenizer().encode(text)
    return [ThoughtInput(token_id, hidden[i % len(hidden)], i == len(ids) - 1) for i, token_id in enumerate(ids)]


def test_all_eos_first_frame_is_an_empty_reply(generator: Generator) -> None:
    outputs = new_request(generator).receive(EOS_FRAME)
    assert outputs == [SpeechEnd(EndReason.EOS, 0, 0, 0, 0, dropped_frame=(0,) * 8)]


def test_frame_with_an_eos_codebook_0_goes_on(generator: Generator) -> None:
    codes = np.array([0, 0, 0, 0, 0, 0, 5, 0])
    assert new_request(generator).receive(codes) == [Frame(0, (0, 0, 0, 0, 0, 0, 5, 0), voiced=True)]


def test_eos_on_the_last_frame_allowed_is_reported_as_eos(generator: Generator) -> None:
    frame, end = new_request(generator, max_frames=1).receive(np.array([0] * 7 + [9]))
    assert isinstance(end, SpeechEnd)
    assert isinstance(frame, Frame)
    assert (frame.voiced, end.reason, end.frames) == (False, EndReason.EOS, 1)


def test_speech_ends_at_its_most_frames(generator: Generator) -> None:
    frame, end = new_request(generator, max_frames=1).receive(SOUND)
    assert isinstance(end, SpeechEnd)
    assert frame == Frame(0, (1,) * 8, voiced=True)
    assert (end.reason, end.frames) == (EndReason.MAX_FRAMES, 1)


def test_even_frames_take_thoughts_until_the_last(generator: Generator) -> None:
    request = new_request(generator)
    first, *_ = single_rows()["basic_audio"].thoughts
    taken = []
    for frame in range(6):
        waiting = replace(first, last=frame == 2)
        taken.append(request.next_thought(waiting) is waiting)
        request.receive(SOUND)
    assert taken == [True, False, True, False, False, False]
    assert request.thoughts == 2


def test_text_that_ends_without_a_last_thought_is_spoken_on(generator: Generator) -> None:
    request = new_request(generator)
    for waiting in [single_rows()["basic_audio"].thoughts[0], None]:
        request.next_thought(waiting)
        request.receive(SOUND)
    assert request.wants_thought
    assert request.next_thought(None) is None
    assert not request.wants_thought


def test_frame_0_without_a_thought_is_refused(generator: Generator) -> None:
    with pytest.raises(InvalidArgument, match="at least one thought"):
        new_request(generator).next_thought(None)


def test_times_of_the_first_and_the_last_frame_are_kept(generator: Generator) -> None:
    request = new_request(generator)
    for now_s in (3.0, 4.0, 5.0):
        request.receive(SOUND, now_s)
    assert (request.first_frame_s, request.last_frame_s) == (3.0, 5.0)


@pytest.mark.parametrize(("frames", "expected"), [(1, 31 + 3), (2, 31 + 4), (3, 31 + 7), (5000, 2048)])
def test_max_positions_counts_prompt_frames_and_thoughts(frames: int, expected: int, generator: Generator) -> None:
    assert max_positions(new_request(generator, max_frames=frames).message, 2048) == expected


@pytest.fixture
def short(generator: Generator) -> Generator:
    """The golden model with 120 positions after its prompt of 31: segments of at most 19 thoughts."""
    kv = PagedKV(generator.kv.config, slots=2, pages=40, dtype=torch.float32, max_positions=31 + 120)
    return Generator(generator.backbone, generator.decoder, kv, eos=generator.eos, im_end=generator.im_end)


def say(generator: Generator, thoughts: Sequence[ThoughtInput], max_frames: int) -> tuple[Recording, SpeechEnd]:
    message = replace(single_rows()["basic_audio"].request(generator), max_frames=max_frames)
    spoken = speak(generator, message, thoughts, TextBreaks(small_tokenizer()))
    assert spoken.end is not None
    return spoken, spoken.end


def starts(spoken: Recording) -> list[int]:
    """The frames that begin with the zero row."""
    return [frame for frame, rows in enumerate(spoken.rows[1:]) if not rows[0].any()]


def test_every_segment_is_a_speech_of_its_own_from_the_voice_prompt(short: Generator) -> None:
    thoughts = thoughts_of("".join(SENTENCES * 2))
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
            closing = ThoughtInput(short.im_end, thoughts[first + count].hidden, last=True)
            assert fed[-1][2].equal(short.backbone.text_rows(torch.tensor([short.im_end]))[0])
            part = [*thoughts[first : first + count], closing]
        else:
            part = thoughts[first:]
        alone, _ = say(short, part, until - begin)
        assert [frame.codes for frame in alone.frames] == [frame.codes for frame in spoken.frames[begin:until]]
        first += count
    assert first == len(thoughts)


def test_segments_begin_with_sentences(short: Generator) -> None:
    text = "".join(SENTENCES * 2)
    spoken, _ = say(short, thoughts_of(text), 10_000)
    spellings = [*SENTENCES, *(sentence.strip() for sentence in SENTENCES)]
    firsts = short.backbone.text_rows(torch.tensor([small_tokenizer().encode(spelling)[0] for spelling in spellings]))
    begins = starts(spoken)
    assert len(begins) > 1
    for begin in begins:
        assert (firsts == spoken.rows[1 + begin][2]).all(dim=1).any()


def test_reply_of_fewer_thoughts_than_two_thirds_of_a_segment_is_not_divided(short: Generator) -> None:
    thoughts = thoughts_of("".join(SENTENCES))[:12]
    _, end = say(short, thoughts, 50)
    assert (end.restarts, end.frames) == (0, 50)


def test_text_without_end_still_ends_at_the_most_frames(short: Generator) -> None:
    spoken, end = say(short, thoughts_of("water " * 100), 240)
    assert (end.reason, end.frames, len(spoken.frames)) == (EndReason.MAX_FRAMES, 240, 240)
    assert end.restarts >= 2


def test_eos_while_closing_begins_the_next_segment_and_is_not_put_out(short: Generator) -> None:
    request = new_request(short, TextBreaks(small_tokenizer()), max_frames=1000)
    waiting = thoughts_of("water " * 60)
    thought = request.next_thought(waiting.pop(0))
    while thought is None or thought.token_id != short.im_end:
        request.receive(SOUND)
        thought = request.next_thought(waiting[0])
        if thought is waiting[0]:
            waiting.pop(0)
    assert thought.hidden is waiting[0].hidden
    assert not request.wants_thought
    frames = request.frames
    assert request.receive(EOS_FRAME) == []
    assert request.segment_is_over
    request.begin_segment()
    assert request.restarts == 1
    assert request.wants_thought
    (frame,) = request.receive(SOUND)
    assert isinstance(frame, Frame)
    assert frame.index == frames
    (end,) = request.receive(EOS_FRAME)
    assert isinstance(end, SpeechEnd)
    assert (end.reason, end.restarts) == (EndReason.EOS, 1)


async def test_positions_are_counted_as_the_kv_cache_counts_them(short: Generator) -> None:
    driver = SpeechDriver(short, small_tokenizer())
    message = replace(single_rows()["basic_audio"].request(short), max_frames=240)
    stream = driver.open(message, thoughts_of("".join(SENTENCES * 2)))
    request = stream.state
    while stream in driver.runner.scheduler.requests:
        assert short.kv.lengths[request.slot] == request.prefilled + request.positions
        assert driver.step() is not None
    assert driver.end(stream).restarts >= 2
    driver.forget_prompts()


async def test_long_replies_are_the_same_in_a_batch_and_free_everything(short: Generator) -> None:
    """Both streams have one voice, so the second begins in pages that the first goes on writing and cuts back."""
    thoughts = thoughts_of("".join(SENTENCES))
    alone, _ = say(short, thoughts, 130)
    driver = SpeechDriver(short, small_tokenizer())
    message = replace(single_rows()["basic_audio"].request(short), max_frames=130)
    streams = []
    for delay in (0, 7):
        for _ in range(delay):
            driver.step()
        streams.append(driver.open(message, thoughts))
    driver.run()
    for stream in streams:
        assert driver.end(stream).restarts == 1
        assert driver.frames(stream) == [frame.codes for frame in alone.frames]
    driver.forget_prompts()
    assert (short.kv.free_slots, short.kv.free_pages) == (2, 40)
