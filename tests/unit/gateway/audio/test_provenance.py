"""Content credentials in generated files: what c2pa-python itself reads from them."""

from __future__ import annotations

import datetime
import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from gateway.audio.provenance import SIGNED, ContentCredentials
from gateway.audio.write import CONTENT_TYPES, GENERATED, FileFormat, whole_file
from services.common.errors import FailedPrecondition

TONE = (np.sin(np.arange(24_000) * 0.05) * 8_000).astype("<i2")
_FROM, _TO = datetime.datetime(2026, 1, 1), datetime.datetime(2046, 1, 1)


def _certificate(name: str, key: Any, issuer: x509.Certificate | None = None, issuer_key: Any = None) -> Any:
    """A certificate of `key`: an authority's without an issuer, else one that may sign content."""
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, name),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "An operator"),
        ]
    )
    signs_others = issuer is None
    usage = x509.KeyUsage(
        digital_signature=not signs_others,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_others,
        crl_sign=signs_others,
        encipher_only=False,
        decipher_only=False,
    )
    signing_key = issuer_key or key
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_FROM)
        .not_valid_after(_TO)
        .add_extension(x509.BasicConstraints(ca=signs_others, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signing_key.public_key()), critical=False)
        .add_extension(usage, critical=True)
    )
    if issuer is not None:
        purpose = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION])
        builder = builder.add_extension(purpose, critical=False)
    return builder.sign(signing_key, hashes.SHA256())


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """The files of a certificate chain and of the signer's key."""
    root_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    root = _certificate("An authority", root_key)
    signer = _certificate("A voice service", key, root, root_key)
    cert, private = tmp_path / "chain.pem", tmp_path / "key.pem"
    cert.write_bytes(signer.public_bytes(Encoding.PEM) + root.public_bytes(Encoding.PEM))
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return cert, private


@pytest.mark.parametrize("file_format", SIGNED)
def test_a_signed_file_says_that_it_was_generated_and_holds_the_same_sound(
    files: tuple[Path, Path], file_format: FileFormat
) -> None:
    import c2pa  # pyright: ignore[reportMissingTypeStubs]

    plain = whole_file(file_format, TONE.tobytes())
    signed = ContentCredentials(*files).sign(file_format, plain)
    reader: Any = c2pa.Reader(CONTENT_TYPES[file_format], io.BytesIO(signed))
    told = json.loads(reader.json())
    manifest = told["manifests"][told["active_manifest"]]
    actions = next(it["data"]["actions"] for it in manifest["assertions"] if it["label"].startswith("c2pa.actions"))
    assert actions[0]["digitalSourceType"] == GENERATED
    assert [it["code"] for it in told["validation_status"]] == ["signingCredential.untrusted"]  # our own authority
    before, after = (soundfile.read(io.BytesIO(file), dtype="int16")[0] for file in (plain, signed))
    assert np.array_equal(before, after)


@pytest.mark.parametrize("file_format", ["pcm", "opus"])
def test_a_format_that_cannot_hold_a_signature_is_left_as_it_is(
    files: tuple[Path, Path], file_format: FileFormat
) -> None:
    plain = whole_file(file_format, TONE.tobytes())
    assert ContentCredentials(*files).sign(file_format, plain) == plain


def test_bad_files_and_a_missing_package_stop_the_start(
    files: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cert, key = files
    for bad in ((tmp_path / "none.pem", key), (cert, cert), (key, key)):
        with pytest.raises(FailedPrecondition, match="cannot be used"):
            ContentCredentials(*bad)
    monkeypatch.setitem(sys.modules, "c2pa", None)
    with pytest.raises(FailedPrecondition, match="c2pa-python"):
        ContentCredentials(cert, key)
