"""The tables of strangers."""

from dataclasses import replace

from train.evaluation.strangers.measure import StrangerFigures
from train.evaluation.strangers.report import report

ANN = StrangerFigures(
    speaker="kokoro_ann",
    engine="Kokoro",
    prompts=6,
    replies=24,
    words=180,
    wrong_words=9,
    ended_by_eos=1.0,
    own=0.8,
    closest_other=0.6,
    own_is_nearest=0.75,
    prompts_own=0.88,
    prompts_closest_other=0.55,
    prompts_own_is_nearest=1.0,
    coded_own=0.82,
)
BEN = replace(ANN, speaker="librivox", engine="a person", words=20, wrong_words=11, own=0.6, own_is_nearest=0.25)


def rows(text: str, first: str) -> list[list[str]]:
    return [
        [cell.strip() for cell in line.strip("|").split(" | ")]
        for line in text.splitlines()
        if line.startswith(f"| {first}")
    ]


def test_every_aim_says_whether_it_is_met() -> None:
    text = report([ANN, BEN])
    assert rows(text, "mean likeness")[0][1:] == ["≥ 0.75", "0.70", "**no**"]
    assert rows(text, "own speaker")[0] == ["own speaker is the nearest of 2", "≥ 60%", "50.0%", "**no**"]
    assert rows(text, "word error rate")[0][1:] == ["≤ 10%", "10.0%", "yes"]
    assert all(aim[-1] == "yes" for aim in rows(report([ANN]), "")[2:5])


def test_each_stranger_has_a_line_and_all_have_the_means() -> None:
    text = report([ANN, BEN])
    assert rows(text, "kokoro_ann") == [
        ["kokoro_ann", "Kokoro", "24", "0.80", "0.88", "0.82", "0.60", "0.55", "75.0%", "100.0%", "5.0%", "100.0%"]
    ]
    assert rows(text, "librivox")[0][-2] == "55.0%"
    assert rows(text, "all")[0] == [
        *("all", "", "48", "0.70", "0.88", "0.82", "0.60", "0.55", "50.0%", "100.0%", "10.0%", "100.0%")
    ]
