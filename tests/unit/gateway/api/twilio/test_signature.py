"""Twilio's signature of a stream's URL."""

from __future__ import annotations

import base64
import hashlib
import hmac

import pytest

from gateway.api.twilio.signature import is_signed

_PATH = "/v1/twilio/media-stream"


def _sign(url: str, token: str = "token") -> str:
    return base64.b64encode(hmac.new(token.encode(), url.encode(), hashlib.sha1).digest()).decode()


@pytest.mark.parametrize(
    ("url", "host"),
    [
        (f"wss://voice.example.com{_PATH}", "voice.example.com"),
        (f"wss://voice.example.com:443{_PATH}", "voice.example.com"),
        (f"wss://voice.example.com{_PATH}", "voice.example.com:443"),
        (f"wss://voice.example.com:8443{_PATH}", "voice.example.com:8443"),
    ],
)
def test_the_account_s_signature_of_the_url_is_taken_with_and_without_its_port(url: str, host: str) -> None:
    assert is_signed(_sign(url), host, _PATH, "token")
    assert not is_signed(_sign(url, "another"), host, _PATH, "token")
    assert not is_signed(_sign(url), "other.example.com", _PATH, "token")
    assert not is_signed(_sign(url), host, "/v1/realtime", "token")


@pytest.mark.parametrize("signature", ["", "AAAA", "é"])
def test_anything_else_is_no_signature(signature: str) -> None:
    assert not is_signed(signature, "voice.example.com", _PATH, "token")
