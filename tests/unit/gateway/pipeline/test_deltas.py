"""The times of a turn's pieces."""

from __future__ import annotations

from gateway.pipeline.deltas import TextDelta, TextPiece, Timings


def test_text_that_is_put_together_keeps_the_time_of_each_piece() -> None:
    one, two = TextPiece("Fold", 160), TextPiece(" it.", 480)
    assert TextDelta.of("turn", [one]) == TextDelta("turn", "Fold", 160)
    together = TextDelta.of("turn", [one, two])
    assert (together.text, together.audio_offset_ms) == ("Fold it.", 160)
    assert together.pieces == (one, two)
    assert TextDelta("turn", "Fold", 160).pieces == (one,)


def test_the_first_and_the_last_time_of_each_kind_are_kept() -> None:
    timings = Timings()
    for at_s in (0.5, 0.6, 0.9):
        timings.mark("thought", at_s)
    timings.mark("audio", 1.5)
    assert (timings.first_thought_s, timings.last_thought_s) == (0.5, 0.9)
    assert (timings.first_audio_s, timings.last_audio_s) == (1.5, 1.5)
    assert timings.first_frame_s is None
