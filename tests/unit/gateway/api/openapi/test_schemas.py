"""The schemas that no pydantic model gives describe what the server reads and answers."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator

from gateway.api.openapi import schemas

_ALL = {name: value for name, value in vars(schemas).items() if name.isupper() and isinstance(value, dict)}


@pytest.mark.parametrize("name", ["TEXT", "RECORDING", "TRANSCRIPT", "VOICE", "CONSENT_RECORD", "DELETED", "ERROR"])
def test_a_schema_is_valid(name: str) -> None:
    Draft202012Validator.check_schema(_ALL[name])


def _matches(answer: Any, schema: dict[str, Any]) -> None:
    Draft202012Validator(schema).validate(answer)
    assert set(answer) <= set(schema["properties"]), "each field of the answer is described"


async def test_the_answers_about_voices_are_as_described(http: httpx.AsyncClient) -> None:
    _matches((await http.get("/v1/voices/ada")).json(), schemas.VOICE)
    (consent, *_) = (await http.get("/v1/consents")).json()["data"]
    _matches(consent, schemas.CONSENT_RECORD)
    (voice, *_) = (await http.get("/v1/audio/voices")).json()["data"]
    Draft202012Validator(schemas.AUDIO["AudioVoice"]).validate(voice)
    Draft202012Validator(schemas.ERROR).validate((await http.get("/v1/voices/unknown")).json())


async def test_a_client_secret_is_as_described(http: httpx.AsyncClient) -> None:
    _matches((await http.post("/v1/realtime/client_secrets")).json(), schemas.CLIENT_SECRET)
