"""The form of operations in the OpenAPI description."""

from __future__ import annotations

from gateway.api.errors import STATUSES
from gateway.api.openapi.operations import form, in_path, json_body, object_answer, operation, page_answer


def test_an_operation_says_what_it_takes_and_how_it_fails() -> None:
    described = operation("Read", "Once.", {"200": {}}, json_body("Voice"), [in_path("voice_id")])
    assert (described["summary"], described["description"]) == ("Read", "Once.")
    assert described["requestBody"]["required"]
    assert described["parameters"][0]["required"]
    failed = described["responses"]["default"]
    assert all(f"{status} {name}" in failed["description"] for name, status in STATUSES.items())
    assert "$ref" in failed["content"]["application/json"]["schema"]


def test_an_operation_without_body_or_parameters_names_none() -> None:
    assert set(operation("Read", "", {"200": {}})) == {"summary", "responses"}


def test_a_body_may_be_left_out() -> None:
    assert not json_body("Voice", required=False)["required"]


def test_a_page_is_a_list_of_objects_and_says_whether_more_follow() -> None:
    one = object_answer("One.", "Voice")["content"]["application/json"]["schema"]
    page = page_answer("Many.", "Voice")["content"]["application/json"]["schema"]["properties"]
    assert page == {"data": {"type": "array", "items": one}, "has_more": {"type": "boolean"}}


def test_a_form_names_its_required_fields() -> None:
    schema = form({"a": {}, "b": {}}, "a")["content"]["multipart/form-data"]["schema"]
    assert (schema["required"], set(schema["properties"])) == (["a"], {"a", "b"})
