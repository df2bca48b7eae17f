"""Pages of lists: the query that asks for one, and the object that answers."""

from __future__ import annotations

import pytest
from starlette.requests import Request

from gateway.api.errors import BadParameter
from gateway.api.openai.paging import list_object, page_of


def asked(query: str) -> Request:
    return Request({"type": "http", "query_string": query.encode(), "headers": []})


def test_a_query_names_the_size_and_where_the_page_begins() -> None:
    assert page_of(asked("limit=3&after=ada"), 100, 20) == (3, "ada")
    assert page_of(asked(""), 100, 20) == (20, "")
    assert page_of(asked("limit=100"), 100, 20) == (100, "")


@pytest.mark.parametrize("limit", ["0", "101", "-1", "1.5", "two", "", "²", "9" * 5_000])
def test_a_limit_that_is_no_number_or_out_of_range_is_named(limit: str) -> None:
    with pytest.raises(BadParameter, match="expected a limit of 1 to 100"):
        page_of(asked(f"limit={limit}"), 100, 20)


def test_a_page_names_its_first_and_last_id() -> None:
    page = list_object([{"id": "ada"}, {"id": "eve"}], has_more=True)
    assert (page["object"], page["first_id"], page["last_id"], page["has_more"]) == ("list", "ada", "eve", True)
    empty = list_object([], has_more=False)
    assert (empty["first_id"], empty["last_id"], empty["data"]) == (None, None, [])
