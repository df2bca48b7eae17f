"""One section of config.json: a value that is absent or null is the default, a wrong one is named."""

from __future__ import annotations

from typing import Any

import pytest

from services.common.errors import CheckpointError
from services.runtime.checkpoint.config_section import integer, number, subsection


@pytest.mark.parametrize("section", [{}, {"width": None}])
def test_an_absent_or_null_value_is_the_default(section: dict[str, Any]) -> None:
    assert integer(section, "width", 48) == 48
    assert number(section, "width", 0.5) == 0.5
    assert subsection(section, "width") == {}


def test_a_given_value_beats_the_default_even_when_it_is_zero() -> None:
    assert integer({"width": 0}, "width", 48) == 0
    assert number({"width": 0}, "width", 0.5) == 0.0


def test_numbers_have_the_type_that_is_asked_for() -> None:
    assert isinstance(integer({"width": 48.0}, "width", 1), int)
    assert isinstance(number({"eps": 1}, "eps", 0.5), float)


@pytest.mark.parametrize("value", ["48", True, [48], {}])
def test_a_value_that_is_no_number_is_named(value: object) -> None:
    for read in (integer, number):
        with pytest.raises(CheckpointError, match=r"config\.json: width: expected a number, found "):
            read({"width": value}, "width", 1)


def test_an_inner_object_is_returned_and_anything_else_is_named() -> None:
    assert subsection({"audio": {"layers": 2}}, "audio") == {"layers": 2}
    with pytest.raises(CheckpointError, match=r"config\.json: audio: expected an object, found \[\]"):
        subsection({"audio": []}, "audio")
