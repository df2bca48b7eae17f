"""What a measurement keeps of the server's pages and of the load generator's records."""

from __future__ import annotations

from typing import Any

from bench.capacity.measure import Load, engine_figures, heard, machine_busy_s, stages_between, steps_between

PAGE = """# TYPE chroma_voice_step_seconds histogram
chroma_voice_step_seconds_bucket{{kind="think",service="reasoner",le="+Inf"}} {count}
chroma_voice_step_seconds_count{{kind="think",service="reasoner"}} {count}
chroma_voice_step_seconds_sum{{kind="think",service="reasoner"}} {seconds}
# TYPE chroma_voice_step_width histogram
chroma_voice_step_width_bucket{{kind="think",service="reasoner",le="+Inf"}} {count}
chroma_voice_step_width_count{{kind="think",service="reasoner"}} {count}
chroma_voice_step_width_sum{{kind="think",service="reasoner"}} {width}
# TYPE chroma_voice_stage_seconds histogram
chroma_voice_stage_seconds_bucket{{stage="hearing",le="+Inf"}} {count}
chroma_voice_stage_seconds_count{{stage="hearing"}} {count}
chroma_voice_stage_seconds_sum{{stage="hearing"}} {seconds}
# TYPE chroma_voice_prompt_rows counter
chroma_voice_prompt_rows_total{{service="reasoner",source="computed"}} 7
# TYPE chroma_voice_frames counter
chroma_voice_frames_total{{service="reasoner"}} 9
"""


def figures(count: int, seconds: float, width: float) -> dict[str, float]:
    return engine_figures({"gateway": PAGE.format(count=count, seconds=seconds, width=width)})


def test_steps_are_those_between_two_readings() -> None:
    before, after = figures(10, 1.0, 10), figures(30, 1.1, 50)
    assert steps_between(before, after) == {"gateway think": {"count": 20, "ms": 5.0, "width": 2.0}}
    assert stages_between(before, after) == {"hearing": 5.0}
    assert steps_between(after, after) == {}
    assert after["gateway chroma_voice_prompt_rows_total computed"] == 7
    assert not [name for name in after if "frames_total" in name]


def turn(**changed: Any) -> dict[str, Any]:
    return {
        "outcome": "completed",
        "status": "OK",
        "question": "a.wav",
        "question_s": 1.5,
        "voice": "amber",
        "sound_s": 4.0,
        "first_sound_s": 0.1,
        "first_piece_s": 0.1,
        "gaps": [],
    } | changed


def test_what_callers_heard_is_counted_by_outcome() -> None:
    found = heard(
        [
            turn(),
            turn(first_sound_s=0.05, first_piece_s=0.05, gaps=[[1.0, 0.1]]),
            turn(outcome="failed", status="RESOURCE_EXHAUSTED", first_sound_s=None),
            turn(outcome="failed", status="UNAVAILABLE", first_sound_s=None),
            turn(outcome="interrupted", sound_s=2.0, first_sound_s=0.2, first_piece_s=0.17),
            turn(outcome="unfinished"),
        ]
    )
    assert (found["turns"], found["refused"], found["failed otherwise"], found["interrupted"]) == (5, 1, 1, 1)
    assert found["with gaps"] == 1
    assert found["first sound ms"] == [50, 100, 200]
    assert found["leading silence ms"] == 30
    assert found["reply s"] == {"a.wav amber": {"4.00": 2}}


def test_the_command_says_the_whole_load() -> None:
    command = Load(0.3, 60.0, questions=("a.wav", "b.wav")).bench_command("STATE", "OUT")
    assert command[:1] == ["bench"]
    for option, value in (("--rate", "0.3"), ("--duration", "60"), ("--seed", "1"), ("--think", "0.8")):
        assert command[command.index(option) + 1] == value
    assert [command[place + 1] for place, word in enumerate(command) if word == "--question"] == ["a.wav", "b.wav"]


def test_the_machines_cpu_time_grows() -> None:
    assert machine_busy_s() > 0
