from __future__ import annotations

from gateway.api.openai.out_of_domain import HEADER, out_of_domain_header, out_of_domain_member


def test_clients_learn_which_sentences_and_how_many() -> None:
    assert out_of_domain_header(["Good morning.", "Good night."]) == {HEADER: "2"}
    assert out_of_domain_member(("Good morning.",)) == {"out_of_domain": ["Good morning."]}


def test_without_such_sentences_nothing_is_said() -> None:
    assert out_of_domain_header([]) == {}
    assert out_of_domain_member([]) == {}
