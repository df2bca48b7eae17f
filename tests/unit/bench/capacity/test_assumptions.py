"""The file of assumptions: what it holds, and the line that names an error."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.capacity.assumptions import DEFAULT_FILE, BadAssumptions, read_assumptions

GOOD = DEFAULT_FILE.read_text(encoding="utf-8")


def error_of(tmp_path: Path, old: str, new: str) -> str:
    """The message about the default file with one change."""
    assert old in GOOD
    path = tmp_path / "mine.toml"
    path.write_text(GOOD.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(BadAssumptions) as caught:
        read_assumptions(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    return message.removeprefix(f"{path}: ")


def test_the_default_file_can_be_read_and_its_prices_are_placeholders() -> None:
    found = read_assumptions()
    assert {gpu.price_per_hour for gpu in found.gpus.values()} == {1.0}
    assert found.gateway.price_per_core_hour == 1.0
    assert found.talk.turn_s == pytest.approx(4 + 8 + 2)
    assert found.talk.conversation_s == pytest.approx(14 * 6 - 2)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("core_used", "cores_used = 0.5\ncore_used", "gateway.cores_used: there is no such value"),
        ("price_per_hour = 1.0", "price_per_hour = -2", "gpus.H200.price_per_hour: input should be greater than"),
        ("barge_in = 0.1", "barge_in = 1.5", "talk.barge_in: input should be less than or equal to 1"),
        ("question_s = 4.0", "", "talk.question_s: it is missing"),
        ("question_s = 4.0", 'question_s = "long"', "talk.question_s: input should be a valid number"),
        ("min_turns = 3", "min_turns = 10", "talk: value error, expected the least of replies and turns"),
        ("count = 3", "count = 2.5", "zones.count: input should be a valid integer"),
        ("cpu_ms = 3.0", "cpu_ms = inf", "gateway.cpu_ms: input should be a finite number"),
        ("[objective]", "[objective", "no TOML: "),
    ],
)
def test_an_error_names_the_value_and_what_was_expected(tmp_path: Path, old: str, new: str, message: str) -> None:
    told = error_of(tmp_path, old, new)
    assert told.startswith(message)
    assert "\n" not in told


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadAssumptions, match=r"none\.toml: No such file"):
        read_assumptions(tmp_path / "none.toml")


def test_whole_numbers_may_stand_for_numbers(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(GOOD.replace("question_s = 4.0", "question_s = 4", 1), encoding="utf-8")
    assert read_assumptions(path).talk.question_s == 4.0
