"""The one model."""

from __future__ import annotations

import httpx

from gateway.api.catalog import MODEL


async def test_the_list_holds_the_one_model(http: httpx.AsyncClient) -> None:
    listed = (await http.get("/v1/models")).json()
    assert [model["id"] for model in listed["data"]] == [MODEL]
    assert (await http.get(f"/v1/models/{MODEL}")).json() == listed["data"][0]


async def test_another_model_is_not_found(http: httpx.AsyncClient) -> None:
    response = await http.get("/v1/models/other")
    assert (response.status_code, response.json()["error"]["code"]) == (404, "not_found")
