"""Records of replies know their rates and nearest voices."""

from tests.support.eval_results import failed, references, reply


def test_a_reply_knows_its_word_error_rate_and_nearest_voice() -> None:
    told = reply(1, "ben", wrong=1, similarity=0.4).to_dict()
    assert (told["word_error_rate"], told["nearest"], told["sound"]["seconds"]) == (1 / 3, "ann", 2.0)


def test_a_failed_pair_has_neither() -> None:
    lost = failed(1)
    assert (lost.is_reply, lost.word_error_rate, lost.nearest) == (False, None, "")


def test_a_reference_is_json() -> None:
    assert references().found[-1].to_dict()["beside"] == "ben"
