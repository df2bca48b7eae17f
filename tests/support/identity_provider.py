"""An identity provider on loopback: a discovery document, public keys, and tokens signed by their private halves."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

AUDIENCE = "chroma"


@cache
def private_key(kind: str, number: int = 0) -> Any:
    """Return a private key: the same one for the same arguments. `kind`: RSA, small RSA, EC or OKP."""
    if kind == "EC":
        return ec.generate_private_key(ec.SECP256R1())
    if kind == "OKP":
        return ed25519.Ed25519PrivateKey.generate()
    return rsa.generate_private_key(65537, 1024 if kind == "small RSA" else 2048)


def public_jwk(key: Any, **fields: Any) -> dict[str, Any]:
    """Return the public half of a private key as a JWK."""
    public = key.public_key()
    algorithm: Any = RSAAlgorithm
    if isinstance(key, ec.EllipticCurvePrivateKey):
        algorithm = ECAlgorithm
    elif isinstance(key, ed25519.Ed25519PrivateKey):
        algorithm = OKPAlgorithm
    return {**json.loads(algorithm.to_jwk(public)), **fields}


class Provider:
    """The provider's documents as it serves them now. `url` is its issuer."""

    def __init__(self) -> None:
        self.keys: list[dict[str, Any]] = [public_jwk(private_key("RSA"), kid="rsa-1")]
        self.status = 200
        self.discovery: dict[str, Any] = {}
        """Fields of the discovery document that differ."""
        self.requests: list[str] = []
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                provider.requests.append(self.path)
                body = provider.answer(self.path)
                self.send_response(provider.status if body is not None else 404)
                if provider.status == 302:
                    self.send_header("location", f"{provider.url}/elsewhere")
                self.end_headers()
                self.wfile.write(json.dumps(body).encode())

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                """Keep quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def answer(self, path: str) -> dict[str, Any] | None:
        """Return the document at a path. None: there is none."""
        if path == "/.well-known/openid-configuration":
            return {"issuer": self.url, "jwks_uri": f"{self.url}/keys", **self.discovery}
        return {"keys": self.keys} if path == "/keys" else None

    def token(
        self, key: Any = None, algorithm: str = "RS256", headers: dict[str, Any] | None = None, **claims: Any
    ) -> str:
        """Return a token. A claim of None is left out."""
        now_s = int(time.time())
        given = {
            "iss": self.url,
            "aud": AUDIENCE,
            "sub": "user-1",
            "exp": now_s + 600,
            "iat": now_s,
            "tenant": "acme",
            "scope": "openid talk",
            **claims,
        }
        payload = {name: value for name, value in given.items() if value is not None}
        header = {"kid": "rsa-1"} if headers is None else headers
        return jwt.encode(payload, private_key("RSA") if key is None else key, algorithm, header)

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@contextmanager
def serving_provider() -> Iterator[Provider]:
    """Serve a provider on a free loopback port."""
    provider = Provider()
    try:
        yield provider
    finally:
        provider.close()
