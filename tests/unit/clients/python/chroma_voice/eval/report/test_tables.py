"""Rows of tables and sentences."""

from chroma_voice.eval.references import References
from chroma_voice.eval.report.tables import facts, figure_rows, quality_rows
from chroma_voice.eval.summary import summarise
from tests.support.eval_results import failed, results


def test_replies_voices_and_references_have_rows() -> None:
    assert quality_rows(results().summary) == [
        ["all replies", "3", "0.700", "0.400", "0.900", "66.7%", "11.1%", "9"],
        ["ann", "2", "0.850", "0.800", "0.900", "100.0%", "16.7%", "6"],
        ["ben", "1", "0.400", "0.400", "0.400", "0.0%", "0.0%", "3"],
        ["recordings", "2", "-", "-", "-", "-", "16.7%", "6"],
        ["voice with itself", "1", "0.950", "0.950", "0.950", "-", "-", "-"],
        ["another speaker", "1", "0.400", "0.400", "0.400", "-", "-", "-"],
        ["codec alone", "-", "-", "-", "-", "-", "-", "-"],
    ]


def test_waits_and_sound_have_their_units() -> None:
    rows = {row[0]: row[1:] for row in figure_rows(results().summary)}
    assert rows["first sound, ms"] == ["3", "200", "100", "200", "300", "300"]
    assert rows["real-time factor"][1] == "0.50"
    assert rows["silent share, %"][1] == "25.0"
    assert rows["peak, dBFS"][1] == "-3.0"


def test_counts_are_told_and_what_is_not_available() -> None:
    assert facts(results().summary) == [
        "3 replies to 4 pairs; 1 failed",
        "the sound ended by eos (3)",
        "word error rate as the mean over the replies: 11.1%",
        "not available: codec alone (no codec service is known: --codec names one)",
        "failed: 1 with INTERNAL (a step failed)",
    ]


def test_nothing_is_dashes() -> None:
    summary = summarise(1, [failed(1)], References())
    assert quality_rows(summary)[0] == ["all replies", "0", "-", "-", "-", "-", "-", "-"]
    assert {row[2] for row in figure_rows(summary)} == {"-"}
