"""The report's tables, and their place in a page."""

from dataclasses import replace
from pathlib import Path

import pytest

from train.evaluation.questions import NEW
from train.evaluation.report import MARKERS, Markers, report, write_between
from train.evaluation.results import Misrecognised, Mistake, Results, Share, Taco, VoiceFigures


def figures(voice: str, word_error_rate: float, ended_by_eos: float | None) -> VoiceFigures:
    return VoiceFigures(voice, 10, 80, word_error_rate, 0.84, 0.55, 0.96, ended_by_eos)


RESULTS = Results(
    checkpoint_bytes=31_600_000,
    questions=[Share(NEW, 19, 20), Share("typed", 1, 3)],
    asking_voices=[Share("zoe", 19, 20)],
    degraded=[Share("by telephone", 3, 4)],
    conversations=[],
    originals=[figures("ann", 0.01, None), figures("ben", 0.02, None), figures("all", 0.015, None)],
    replies=[figures("ann", 0.05, 1.0), figures("ben", 0.2, 0.98), figures("all", 0.125, 0.985)],
    answers=None,
    taco=Taco("ann", "Warm a tortilla.", "Warm a tortilla"),
    mistakes=[Mistake(NEW, "zoe", "either|or", "Yes.", "")],
    misrecognised=[Misrecognised("ben", "It is Paris.", "It is pears.", 1 / 3)],
)


def rows(text: str, first: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split(" | ")] for line in text.splitlines() if line.startswith(f"| {first}")]


def test_every_aim_says_whether_it_is_met() -> None:
    text = report(RESULTS)

    assert rows(text, "right answers")[0][1:] == ["≥ 90%", "95.0% of 20", "yes |"]
    assert rows(text, "word error rate of replies")[0][1:] == ["≤ 15%", "12.5%", "yes |"]
    assert rows(text, "word error rate in the best voice (ann)")[0][1:] == ["≤ 8%", "5.0%", "yes |"]
    assert rows(text, "right voice is the nearest")[0][2:] == ["96.0%", "yes |"]
    assert rows(text, "replies that end by EOS")[0][1:] == ["≥ 99%", "98.5%", "**no** |"]


def test_a_missed_aim_is_not_met() -> None:
    missed = report(replace(RESULTS, questions=[Share(NEW, 17, 20)]))

    assert rows(missed, "right answers")[0][2:] == ["85.0% of 20", "**no** |"]


def test_a_voice_stands_beside_its_originals_with_sample_sizes() -> None:
    [row] = rows(report(RESULTS), "ben | 10")

    assert row[1:4] == ["10 (80)", "20.0%", "2.0%"]


def test_a_voice_without_originals_stands_alone() -> None:
    few = replace(RESULTS, originals=[one for one in RESULTS.originals if one.voice != "ben"])

    assert rows(report(few), "ben | 10")[0][1:4] == ["10 (80)", "20.0%", ""]


def test_an_empty_group_has_no_table() -> None:
    assert "in a conversation" not in report(RESULTS)
    assert "in a conversation" in report(replace(RESULTS, conversations=[Share("again", 1, 1)]))


def test_each_degradation_has_its_share_of_right_answers() -> None:
    assert rows(report(RESULTS), "by telephone")[0][1:] == ["75.0%", "4 |"]


def test_a_bar_in_a_question_does_not_break_its_table() -> None:
    assert "either\\|or" in report(RESULTS)


def test_precisions_have_one_table_if_there_are_several() -> None:
    text = report(RESULTS, "", {"float32": RESULTS, "int8": replace(RESULTS, questions=[Share(NEW, 18, 20)])})

    assert rows(text, "float32")[0][1:3] == ["95.0% of 20", ""]
    assert rows(text, "int8")[0][1:3] == ["90.0% of 20", "-5.0 points"]
    assert "By precision" not in report(RESULTS)


def test_the_picture_is_shown_if_there_is_one() -> None:
    assert "](nano.png)" in report(RESULTS, "nano.png")
    assert "![" not in report(RESULTS)


def test_only_the_text_between_the_markers_is_replaced(tmp_path: Path) -> None:
    page = tmp_path / "nano.md"
    other = Markers("<!-- a -->", "<!-- b -->")
    page.write_text(
        f"# Before\n\n{MARKERS.begin}\nold\n{MARKERS.end}\n\n{other.begin}\nkept\n{other.end}\n", encoding="utf-8"
    )

    write_between(MARKERS, page, "new")

    assert page.read_text(encoding="utf-8") == (
        f"# Before\n\n{MARKERS.begin}\nnew\n{MARKERS.end}\n\n{other.begin}\nkept\n{other.end}\n"
    )


def test_a_page_without_markers_is_refused(tmp_path: Path) -> None:
    page = tmp_path / "nano.md"
    page.write_text("# Nothing here\n")

    with pytest.raises(ValueError, match="expected the lines"):
        write_between(MARKERS, page, "new")
