"""The header that names parameters without effect."""

from __future__ import annotations

from gateway.api.openai.ignored import IGNORED_HEADER, ignored_header


def test_the_names_are_listed_in_their_order() -> None:
    assert ignored_header(["temperature", "text.verbosity"]) == {IGNORED_HEADER: "temperature, text.verbosity"}


def test_without_names_there_is_no_header() -> None:
    assert ignored_header(name for name in ()) == {}
