from __future__ import annotations

from pathlib import Path

import pytest

from chroma_voice.bench.load.plan import Mix, PlannedTurn, Question
from chroma_voice.bench.load.recorded import read_plan, write_plan
from chroma_voice.errors import InvalidArgument
from tests.support.scripted_target import tone

QUESTIONS = [Question("short.wav", tone(0.5)), Question("long.wav", tone(2.0))]
MIX = Mix(voices=("amber",), questions=2, barge_in=0.5, hands_free=0.5)


def test_a_plan_that_was_written_is_read_again(tmp_path: Path) -> None:
    plan = MIX.conversations([0.5, 1.25, 3.0])
    write_plan(tmp_path / "plan.jsonl", plan, QUESTIONS)
    assert read_plan(tmp_path / "plan.jsonl", Mix(questions=2, seed=9), QUESTIONS) == plan


def test_what_a_line_does_not_say_is_drawn(tmp_path: Path) -> None:
    file = tmp_path / "plan.jsonl"
    file.write_text(
        '{"at_s": 2}\n\n{"at_s": 1, "voice": "basil", "turns": [{"question": "long.wav", "barge_in_s": 0.7}]}\n'
    )
    basil, drawn = read_plan(file, MIX, QUESTIONS)
    assert drawn == MIX.conversation(0, 2.0)
    assert (basil.at_s, basil.voice, basil.turns) == (1.0, "basil", (PlannedTurn(1, 0.0, 0.7),))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "empty file"),
        ('{"at_s": 1}\nnonsense', "line 2"),
        ('{"voice": "amber"}', "at_s"),
        ('{"at_s": -1}', "0 or more"),
        ('{"at_s": 1, "rate": 2}', "unknown: rate"),
        ('{"at_s": 1, "turns": []}', "list of turns"),
        ('{"at_s": 1, "turns": [{"question": "other.wav"}]}', "other.wav"),
        ('{"at_s": "soon"}', "line 1"),
        ("[1]", "another kind of JSON"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, text: str, told: str) -> None:
    file = tmp_path / "plan.jsonl"
    file.write_text(text)
    with pytest.raises(InvalidArgument, match=r"plan\.jsonl") as error:
        read_plan(file, MIX, QUESTIONS)
    assert told in error.value.message
