"""Twilio's signature of a request: that it comes from the account whose auth token the operator has set."""

from __future__ import annotations

import base64
import hashlib
import hmac


def is_signed(signature: str, host: str, path: str, auth_token: str) -> bool:
    """Tell whether `X-Twilio-Signature` is that of a WebSocket at this host and path. Twilio signs its URL.

    Twilio writes the port of the URL where the `<Stream>` has it, and libraries accept both forms; so does this.
    """
    hosts = [host.removesuffix(":443"), f"{host.removesuffix(':443')}:443"] if _has_default_port(host) else [host]
    given = signature.encode()
    return any(hmac.compare_digest(_signature(f"wss://{name}{path}", auth_token), given) for name in hosts)


def _has_default_port(host: str) -> bool:
    _, separator, port = host.rpartition(":")
    return not separator or port == "443"


def _signature(url: str, auth_token: str) -> bytes:
    return base64.b64encode(hmac.new(auth_token.encode(), url.encode(), hashlib.sha1).digest())
