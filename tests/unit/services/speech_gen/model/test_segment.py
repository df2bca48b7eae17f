"""When a segment of a long reply closes."""

from __future__ import annotations

from services.speech_gen.model.segment import Segment
from services.speech_gen.model.text_breaks import Break

ROWS = 2048 - 300


def first_closed(what: Break, rows: int = ROWS) -> int:
    """How many thoughts a segment takes before it closes, if `what` begins with every one of them."""
    segment = Segment(rows)
    while not segment.closes_before(what):
        segment.thoughts += 1
        assert segment.thoughts < 10_000
    return segment.thoughts


def test_sentence_closes_from_two_thirds_on_a_word_from_nine_tenths_and_anything_at_the_end() -> None:
    assert [first_closed(what) for what in (Break.SENTENCE, Break.WORD, Break.NONE)] == [194, 262, 291]


def test_the_fullest_segment_leaves_two_frames_a_thought_to_catch_up() -> None:
    thoughts = first_closed(Break.NONE)
    closing = 3
    assert 4 * thoughts + closing + 2 * thoughts <= ROWS + 1


def test_segment_is_over_five_frames_a_thought_after_it_began() -> None:
    segment = Segment(ROWS)
    segment.thoughts, segment.frames = 200, 1000
    assert not segment.has_caught_up
    segment.is_closing = True
    assert segment.has_caught_up
    segment.frames = 999
    assert not segment.has_caught_up


def test_prompt_that_leaves_room_for_a_few_words_has_no_segments() -> None:
    segment = Segment(6 * 15 + 2)
    segment.thoughts = 100
    assert not segment.closes_before(Break.SENTENCE)
