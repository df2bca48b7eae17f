"""Content credentials (C2PA): a signed statement in an audio file that its speech was generated.

The signature covers the whole file, so only a file that is sent as a whole can have one. It is made by c2pa-python,
the reference implementation, with the operator's certificate. The package is optional: the extra `provenance`.
"""

from __future__ import annotations

import importlib
import io
from pathlib import Path
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, SECP384R1, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from gateway.audio.write import CONTENT_TYPES, GENERATED, FileFormat, whole_file
from services.common.errors import ChromaError, FailedPrecondition
from services.common.wire.audio import SAMPLE_RATE_HZ

SIGNED: tuple[FileFormat, ...] = ("wav", "mp3", "flac")
"""The formats that can hold a signature. Bare samples and OGG cannot."""

_MANIFEST = {
    "claim_generator_info": [{"name": "chroma-voice"}],
    "assertions": [
        {
            "label": "c2pa.actions.v2",
            "data": {"actions": [{"action": "c2pa.created", "digitalSourceType": GENERATED}]},
        }
    ],
}


class ContentCredentials:
    """Signs files with one certificate."""

    def __init__(self, cert: Path, key: Path) -> None:
        """`cert` is a PEM file with the certificate chain, the signer's first; `key` has its private key.

        Raises FailedPrecondition when they cannot be used, or the package is not installed.
        """
        try:
            self._c2pa: Any = importlib.import_module("c2pa")
        except ImportError:
            raise FailedPrecondition(
                "CHROMA_C2PA_CERT needs the package c2pa-python: `pip install '.[provenance]'` in the repository"
            ) from None
        try:
            chain, private_key = cert.read_bytes(), key.read_bytes()
            info = self._c2pa.C2paSignerInfo(_algorithm(private_key), chain, private_key, None)
            self._signer: Any = self._c2pa.Signer.from_info(info)
            self.sign("wav", whole_file("wav", bytes(2 * SAMPLE_RATE_HZ)))  # only a signature shows what does not fit
        except (OSError, ValueError, UnsupportedAlgorithm, self._c2pa.C2paError, ChromaError) as error:
            raise FailedPrecondition(f"CHROMA_C2PA_CERT and _KEY cannot be used: {type(error).__name__}") from None

    def sign(self, file_format: FileFormat, file: bytes) -> bytes:
        """Return the file with the statement in it. A format that cannot hold one is returned as it is.

        The time grows with the length of a WAV file. Runs on any thread.
        """
        if file_format not in SIGNED:
            return file
        signed = io.BytesIO()
        try:
            self._c2pa.Builder(_MANIFEST).sign(self._signer, CONTENT_TYPES[file_format], io.BytesIO(file), signed)
        except self._c2pa.C2paError as error:
            raise ChromaError(f"the reply could not be signed: {type(error).__name__}") from error
        return signed.getvalue()


def _algorithm(private_key: bytes) -> bytes:
    """C2PA's name of the algorithm of a private key. Raises ValueError for a key that C2PA does not use."""
    match load_pem_private_key(private_key, None):
        case EllipticCurvePrivateKey(curve=SECP256R1()):
            return b"es256"
        case EllipticCurvePrivateKey(curve=SECP384R1()):
            return b"es384"
        case Ed25519PrivateKey():
            return b"ed25519"
        case RSAPrivateKey():
            return b"ps256"
        case _:
            raise ValueError("expected a key on P-256 or P-384, Ed25519 or RSA")
