"""API keys and tenants."""

from __future__ import annotations

import pytest
from starlette.requests import HTTPConnection

from gateway.api.auth import subprotocols, tenant_of
from services.common.errors import InvalidArgument, Unauthenticated


def test_without_keys_a_caller_names_its_tenant_or_is_of_the_default_one() -> None:
    assert tenant_of({}, "", "acme") == "acme"
    assert tenant_of({}, "Bearer anything", "") == "default"
    with pytest.raises(InvalidArgument, match="tenant"):
        tenant_of({}, "", "a tenant")


def test_with_keys_the_key_decides_the_tenant_whatever_is_claimed() -> None:
    keys = {"sk-a": "a", "sk-b": "b"}
    assert tenant_of(keys, "Bearer sk-b", "a") == "b"
    assert tenant_of(keys, "bearer  sk-a ", "") == "a"


@pytest.mark.parametrize("authorization", ["", "Bearer", "Bearer ", "Basic sk-a", "Bearer sk-x", "Bearer sk-a2"])
def test_a_missing_or_unknown_key_is_unauthenticated(authorization: str) -> None:
    with pytest.raises(Unauthenticated):
        tenant_of({"sk-a": "a"}, authorization, "")


def test_subprotocols_are_the_comma_separated_names_of_the_header() -> None:
    header = (b"sec-websocket-protocol", b"realtime, openai-insecure-api-key.sk-a,")
    connection = HTTPConnection({"type": "websocket", "headers": [header]})
    assert subprotocols(connection) == ["realtime", "openai-insecure-api-key.sk-a"]
