from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from chroma_voice.cli.load.options import LoadOptions
from chroma_voice.errors import InvalidArgument

DEFAULTS: dict[str, Any] = {
    "url": "",
    "realtime": False,
    "model": "",
    "beta": False,
    "rate": 0.2,
    "ramp_to": None,
    "recorded": None,
    "duration_s": None,
    "warm_up_s": 0.0,
    "min_turns": 1,
    "max_turns": 3,
    "think_s": 1.5,
    "barge_in": 0.1,
    "hands_free": 0.0,
    "voices": (),
    "questions": (),
    "seed": 0,
    "workers": 1,
    "buffer_s": 0.0,
    "patience_s": 30.0,
    "metrics": None,
    "out": Path("bench-results"),
    "find_capacity": False,
    "objective_s": 0.3,
    "objective_underruns": 0.001,
    "store": True,
}


def options(**given: Any) -> LoadOptions:
    return LoadOptions(**(DEFAULTS | given))


def test_a_run_takes_a_minute_and_a_recorded_one_as_long_as_it_takes() -> None:
    assert options().seconds == 60.0
    assert options(duration_s=5.0).seconds == 5.0
    assert options(recorded=Path("plan.jsonl")).seconds is None
    assert options(recorded=Path("plan.jsonl"), duration_s=5.0).seconds == 5.0


@pytest.mark.parametrize(
    "wrong",
    [
        {"recorded": Path("p"), "ramp_to": 1.0},
        {"recorded": Path("p"), "find_capacity": True},
        {"find_capacity": True, "ramp_to": 1.0},
    ],
)
def test_options_that_contradict_each_other_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument, match="leave"):
        options(**wrong)


def test_the_description_is_json() -> None:
    found = json.loads(json.dumps(options(recorded=Path("a/plan.jsonl")).described()))
    assert (found["recorded"], found["rate"], found["turns"]) == ("plan.jsonl", None, "1 to 3")
