from __future__ import annotations

from dataclasses import replace

from chroma_voice import Timings, TurnDone
from chroma_voice.cli.conversation import waterfall

DONE = TurnDone(
    turn_id="t",
    outcome="completed",
    error=None,
    recorded=True,
    text="x",
    heard_text="x",
    input_audio_s=2.3,
    output_audio_s=6.4,
    input_tokens=10,
    cached_tokens=0,
    output_tokens=40,
    speech_end="eos",
    speech_restarts=0,
    dropped_turns=0,
    timings=Timings(0.041, 0.063, 0.105, 0.118, 0.9, 2.2, 2.24),
)


def test_each_stage_begins_with_the_first_result_of_the_one_before() -> None:
    turn = waterfall.Turn.of(DONE, delivered_s=0.121)
    assert [(stage.name, stage.begin_s, stage.first_s, stage.last_s) for stage in turn.stages] == [
        ("hearing", 0.0, 0.041, 0.041),
        ("thinking", 0.041, 0.063, 0.9),
        ("speaking", 0.063, 0.105, 2.2),
        ("sounding", 0.105, 0.118, 2.24),
        ("delivery", 0.118, 0.121, 0.121),
    ]
    assert (turn.first_sound_s, turn.last_sound_s, turn.sound_s) == (0.121, 2.24, 6.4)


def test_stages_that_never_began_are_left_out() -> None:
    silent = replace(DONE, output_audio_s=0.0, timings=Timings(heard_s=0.1, first_thought_s=0.2, last_thought_s=0.2))
    turn = waterfall.Turn.of(silent, delivered_s=None)
    assert [stage.name for stage in turn.stages] == ["hearing", "thinking"]
    assert turn.first_sound_s is None


def test_text_bars_lie_on_one_time_axis() -> None:
    _, hearing, thinking, speaking, *_ = waterfall.text_lines(waterfall.Turn.of(DONE, delivered_s=0.121))
    assert hearing.index("█") < thinking.index("█") < speaking.index("█")
    assert thinking.count("█") < speaking.count("█")
    assert thinking.endswith("63 ms     900 ms")
