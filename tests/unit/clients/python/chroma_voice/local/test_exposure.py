from __future__ import annotations

import pytest

from chroma_voice.errors import FailedPrecondition
from chroma_voice.local import certificate
from chroma_voice.local.exposure import asks_for_keys, check_exposure, names_for_pages
from gateway.settings import GatewaySettings


@pytest.mark.parametrize(
    "environment",
    [
        {"CHROMA_API_KEYS_FILE": "keys.json"},
        {"CHROMA_GATEWAY_API_KEYS_FILE": "keys.json"},
        {"CHROMA_API_KEYS": '{"KEY": "TENANT"}'},
        {"CHROMA_OIDC_ISSUER": "https://id.example.com"},
    ],
)
def test_a_gateway_with_keys_or_an_identity_provider_asks_and_may_be_open(environment: dict[str, str]) -> None:
    assert asks_for_keys(environment)
    check_exposure(environment, "0.0.0.0:1")


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"CHROMA_API_KEYS_FILE": ""},
        {"CHROMA_API_KEYS": "{}"},
        {"CHROMA_TRUSTED_NETWORK": "false"},
    ],
)
def test_a_gateway_without_them_may_be_on_loopback_only(environment: dict[str, str]) -> None:
    assert not asks_for_keys(environment)
    check_exposure(environment, "", "127.0.0.1:1", "localhost:2", "unix:/run/gateway.sock")
    for address in ("0.0.0.0:1", "[::]:1", ":1", "10.0.0.1:1", "voice.example.com:1"):
        with pytest.raises(FailedPrecondition, match="chroma-voice key new"):
            check_exposure(environment, "127.0.0.1:1", address)


@pytest.mark.parametrize("name", ["CHROMA_TRUSTED_NETWORK", "CHROMA_GATEWAY_TRUSTED_NETWORK"])
def test_a_trusted_network_may_be_served_without_keys(name: str) -> None:
    check_exposure({name: "true"}, "0.0.0.0:1")
    assert not asks_for_keys({name: "true"})


@pytest.mark.parametrize(
    ("environment", "http", "names"),
    [
        ({}, "", []),
        ({}, "127.0.0.1:8080", []),
        ({}, "0.0.0.0:8080", ["box", "box.local"]),
        ({}, "[::]:8080", ["box", "box.local"]),
        ({}, "192.168.1.7:8080", ["box", "box.local"]),
        ({}, "Voice.example.com:8080", ["box", "box.local", "voice.example.com"]),
        ({"CHROMA_HTTP_HOSTS": "a.example.com, *.b"}, "0.0.0.0:8080", ["a.example.com", "*.b"]),
        ({"CHROMA_GATEWAY_HTTP_HOSTS": "a"}, "0.0.0.0:8080", ["a"]),
    ],
)
def test_a_page_that_others_reach_may_be_opened_by_the_names_of_the_machine(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], http: str, names: list[str]
) -> None:
    monkeypatch.setattr(certificate.socket, "gethostname", lambda: "Box")
    assert names_for_pages(environment, http) == names
    if names:
        given = GatewaySettings(
            reasoner="a:1", speech_gen="b:1", codec="c:1", redis_url="redis://d:1", http_hosts=",".join(names)
        )
        assert given.http_host_names == names
