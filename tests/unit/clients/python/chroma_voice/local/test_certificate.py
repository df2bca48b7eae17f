from __future__ import annotations

import asyncio
import ssl
import sys
from pathlib import Path

import pytest

from chroma_voice.errors import FailedPrecondition
from chroma_voice.local.certificate import certificate


async def test_a_client_that_trusts_the_certificate_connects_by_name_and_by_address(tmp_path: Path) -> None:
    made = certificate(tmp_path)
    shown = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    shown.load_cert_chain(made.chain, made.key)
    trusting = ssl.create_default_context(cafile=str(made.chain))
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0, ssl=shown)
    port = server.sockets[0].getsockname()[1]
    async with server:
        for name in ("localhost", "127.0.0.1"):
            _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusting, server_hostname=name)
            writer.close()


def test_the_certificate_is_kept_and_its_key_is_the_owners_alone(tmp_path: Path) -> None:
    made = certificate(tmp_path)
    first = made.chain.read_bytes()
    assert certificate(tmp_path) == made
    assert made.chain.read_bytes() == first
    assert made.key.stat().st_mode & 0o077 == 0
    assert len(made.fingerprint.split(":")) == 32


def test_without_cryptography_the_error_names_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography", None)
    with pytest.raises(FailedPrecondition, match="pip install cryptography"):
        certificate(tmp_path)
