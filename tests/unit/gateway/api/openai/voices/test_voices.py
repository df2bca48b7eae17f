"""/v1/voices: pages, and what it refuses."""

from __future__ import annotations

import httpx
import pytest

from gateway.store.voices import MAX_PAGE_SIZE


async def test_a_page_ends_at_the_limit_and_the_next_one_follows_its_last_id(http: httpx.AsyncClient) -> None:
    first = (await http.get("/v1/voices", params={"limit": 2})).json()
    assert [voice["id"] for voice in first["data"]] == ["ada", "bob"]
    assert (first["first_id"], first["last_id"], first["has_more"]) == ("ada", "bob", True)
    second = (await http.get("/v1/voices", params={"after": first["last_id"]})).json()
    assert ([voice["id"] for voice in second["data"]], second["has_more"]) == (["eve"], False)
    third = (await http.get("/v1/voices", params={"after": "eve"})).json()
    assert (third["data"], third["first_id"], third["has_more"]) == ([], None, False)


@pytest.mark.parametrize("limit", ["0", str(MAX_PAGE_SIZE + 1), "-1", "many"])
async def test_a_limit_out_of_range_is_named(http: httpx.AsyncClient, limit: str) -> None:
    response = await http.get("/v1/voices", params={"limit": limit})
    assert (response.status_code, response.json()["error"]["param"]) == (400, "limit")


async def test_a_deleted_voice_is_not_found(http: httpx.AsyncClient) -> None:
    assert (await http.get("/v1/voices/ada")).json()["duration_s"] == 1.5
    assert (await http.delete("/v1/voices/ada")).json() == {
        "id": "ada",
        "object": "voice.deleted",
        "deleted": True,
        "erasure": {"file_rewritten": True, "pending_replicas": 0},
    }
    assert (await http.get("/v1/voices/ada")).status_code == 404


@pytest.mark.parametrize(
    ("form", "param"),
    [({"transcript": "hello", "consent": "yes"}, "file"), ({"colour": "red"}, "colour")],
    ids=["no file", "unknown field"],
)
async def test_a_form_without_a_file_or_with_an_unknown_field_is_refused(
    http: httpx.AsyncClient, form: dict[str, str], param: str
) -> None:
    files = {name: (None, value) for name, value in form.items()}
    response = await http.post("/v1/voices", files=files)
    assert (response.status_code, response.json()["error"]["param"]) == (400, param)
