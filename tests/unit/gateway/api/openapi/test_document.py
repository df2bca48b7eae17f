"""The OpenAPI description: it names the routes and the ranges that the server has."""

from __future__ import annotations

import asyncio
import json
import re

from starlette.routing import Route

from gateway.access.identity import Identity
from gateway.api.app import http_app
from gateway.api.openapi.document import openapi
from gateway.conversation.backend import Backend
from gateway.store.redis import Store
from gateway.store.replies import Replies
from gateway.store.voices import MAX_PAGE_SIZE

_SOCKETS = {("/v1/realtime", "get"), ("/v1/twilio/media-stream", "get")}


async def test_every_http_route_of_the_api_is_described_with_its_method(backend: Backend, store: Store) -> None:
    app = http_app(
        backend, Replies(store), Identity(backend.settings, store, backend.audit), asyncio.Event(), lambda: True
    )
    served = {
        (route.path, method.lower())
        for route in app.routes
        if isinstance(route, Route) and route.path.startswith("/v1/")
        for method in (route.methods or set()) - {"HEAD"}
    } - {("/v1/models/{model}", "get")}
    described = {(path, method) for path, item in openapi()["paths"].items() for method in item}
    assert served == {pair for pair in described if pair[0].startswith("/v1/")} - _SOCKETS


def test_every_reference_leads_to_a_schema() -> None:
    description = openapi()
    named = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(description)))
    assert {"ChatRequest", "SpeechRequest", "Voice", "Error"} <= named <= set(description["components"]["schemas"])


def test_the_ranges_are_those_of_the_checks() -> None:
    description = openapi()
    limit = description["paths"]["/v1/voices"]["get"]["parameters"][0]["schema"]
    assert limit["maximum"] == MAX_PAGE_SIZE
    properties = description["components"]["schemas"]["ChatRequest"]["properties"]
    assert {"type": "number", "exclusiveMinimum": 0, "maximum": 1} in [
        {key: value for key, value in choice.items() if key in ("type", "exclusiveMinimum", "maximum")}
        for choice in properties["top_p"]["anyOf"]
    ]
