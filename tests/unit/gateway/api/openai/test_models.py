"""The one model."""

from __future__ import annotations

from typing import Any

import httpx

from chroma.v1.checkpoint_pb2 import CheckpointCard
from gateway.api.catalog import MODEL
from gateway.conversation.backend import Backend


async def test_the_list_holds_the_one_model(http: httpx.AsyncClient) -> None:
    listed = (await http.get("/v1/models")).json()
    assert [model["id"] for model in listed["data"]] == [MODEL]
    assert (await http.get(f"/v1/models/{MODEL}")).json() == listed["data"][0]


async def test_another_model_is_not_found(http: httpx.AsyncClient) -> None:
    response = await http.get("/v1/models/other")
    assert (response.status_code, response.json()["error"]["code"]) == (404, "not_found")


async def test_a_model_tells_the_limits_of_a_turn_and_whether_speech_is_transcribed(http: httpx.AsyncClient) -> None:
    model = (await http.get(f"/v1/models/{MODEL}")).json()
    assert model["limits"] == {
        "max_input_s": 120.0,
        "max_input_chars": 20_000,
        "max_prompt_chars": 32_000,
        "max_prompt_tokens": None,
    }
    assert model["transcribes"] is False


async def test_the_card_of_the_checkpoint_is_shown_where_there_is_one(
    http: httpx.AsyncClient, backend: Backend
) -> None:
    assert (await http.get(f"/v1/models/{MODEL}")).json()["card"] is None
    reasoner: Any = backend.upstreams.reasoner
    reasoner.described = CheckpointCard(summary="Small.", topics=["tea"], examples=["Why?"])
    card = (await http.get(f"/v1/models/{MODEL}")).json()["card"]
    assert card == {
        "summary": "Small.",
        "topics": ["tea"],
        "examples": ["Why?"],
        "voices": "",
        "preview": "",
        "closed_domain": False,
    }
