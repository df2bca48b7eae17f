"""Figures of an evaluation, from replies whose figures are known."""

import pytest

from chroma_voice.eval.references import References
from chroma_voice.eval.summary import Figures, summarise
from tests.support.eval_results import failed, references, reply, results


def test_words_are_counted_together_and_as_a_mean() -> None:
    short, long = reply(1, wrong=3), reply(2, wrong=0)
    long.words = 9
    overall = summarise(2, [short, long], References()).overall
    assert (overall.wrong, overall.words) == (3, 12)
    assert overall.word_error_rate == 0.25
    assert overall.mean_word_error_rate == 0.5


def test_similarity_is_of_the_own_voice_and_nearest_says_how_often_it_wins() -> None:
    summary = results().summary
    assert summary.overall.similarity.mean == pytest.approx(0.7)
    assert summary.overall.own_is_nearest == pytest.approx(2 / 3)
    assert {one.name: one.own_is_nearest for one in summary.by_voice} == {"ann": 1.0, "ben": 0.0}


def test_with_one_voice_nothing_can_be_nearer() -> None:
    only = reply(1)
    only.cosines = {"ann": 0.9}
    assert summarise(1, [only], References()).overall.own_is_nearest is None


def test_failed_pairs_are_counted_by_status_with_the_first_message() -> None:
    summary = summarise(3, [failed(1, "first"), failed(2, "second"), reply(3)], references())
    assert (summary.failed, summary.errors, summary.messages) == (2, {"INTERNAL": 2}, {"INTERNAL": "first"})
    assert (summary.replies, summary.ended) == (1, {"eos": 1})


def test_reference_points_have_their_own_figures_and_missing_ones_a_reason() -> None:
    summary = results().summary
    found = {one.name: one for one in summary.references}
    assert list(found) == ["recordings", "voice with itself", "another speaker"]
    assert found["recordings"].word_error_rate == pytest.approx(1 / 6)
    assert found["another speaker"].similarity.mean == 0.4
    assert list(summary.missing) == ["codec alone"]
    assert summary.to_dict()["failed"] == 1


def test_figures_of_nothing_are_unknown() -> None:
    assert Figures.of([None]) == Figures(0, None, None, None, None, None)
    assert Figures.of([1.0, None, 3.0]) == Figures(2, 2.0, 1.0, 1.0, 3.0, 3.0)
