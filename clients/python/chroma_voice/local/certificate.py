"""A self-signed certificate for the page. Browsers give no microphone to a page from another machine by plain HTTP."""

from __future__ import annotations

import contextlib
import hashlib
import ipaddress
import os
import socket
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from chroma_voice.errors import FailedPrecondition

_VALID_DAYS = 397
"""Browsers refuse certificates that are valid for longer."""
_RENEW_DAYS = 30


@dataclass(frozen=True)
class Certificate:
    """PEM files of a certificate and its private key."""

    chain: Path
    key: Path

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the certificate, in the form in which browsers show it: compare the two before you trust it."""
        return hashlib.sha256(ssl.PEM_cert_to_DER_cert(self.chain.read_text())).digest().hex(":").upper()


@dataclass(frozen=True)
class _Names:
    """Host names and IP addresses of this machine, as this machine and its neighbours use them."""

    hosts: frozenset[str]
    addresses: frozenset[str]


def certificate(folder: Path) -> Certificate:
    """Return the certificate kept in `folder`. Make a new one when none fits this machine or it expires soon.

    Raises `FailedPrecondition` without the package `cryptography`: only `up --tls` needs it, so the client's extras do
    not install it.
    """
    found = Certificate(folder / "certificate.pem", folder / "key.pem")
    names = _names()
    try:
        if not (found.key.exists() and found.chain.exists() and _is_good(found.chain, names)):
            folder.mkdir(parents=True, exist_ok=True)
            _write(found, names)
    except ImportError as error:
        raise FailedPrecondition(
            "--tls needs the package cryptography to make a certificate: `pip install cryptography`"
        ) from error
    return found


def _write(files: Certificate, names: _Names) -> None:
    """Make a key and its certificate, and write both."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    files.key.unlink(missing_ok=True)
    with os.fdopen(os.open(files.key, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(pem)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "chroma-voice on this machine")])
    alternatives = x509.SubjectAlternativeName(
        [
            *(x509.DNSName(host) for host in sorted(names.hosts)),
            *(x509.IPAddress(ipaddress.ip_address(address)) for address in sorted(names.addresses)),
        ]
    )
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=_VALID_DAYS))
        .add_extension(alternatives, critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    files.chain.write_bytes(made.public_bytes(serialization.Encoding.PEM))


def _is_good(chain: Path, names: _Names) -> bool:
    """Whether the certificate is valid for another `_RENEW_DAYS` and holds all names."""
    from cryptography import x509

    kept = x509.load_pem_x509_certificate(chain.read_bytes())
    if kept.not_valid_after_utc < datetime.now(UTC) + timedelta(days=_RENEW_DAYS):
        return False
    alternatives = kept.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    addresses = {str(address) for address in alternatives.get_values_for_type(x509.IPAddress)}
    return names.hosts <= set(alternatives.get_values_for_type(x509.DNSName)) and names.addresses <= addresses


def host_names() -> list[str]:
    """Return the host names of this machine, as it and its neighbours use them: also the name that mDNS announces."""
    name = socket.gethostname().lower()
    return ["localhost", name, f"{name}.local"] if name.isascii() else ["localhost"]


def _names() -> _Names:
    addresses = {"127.0.0.1", "::1"}
    with contextlib.suppress(OSError):  # the name resolves nowhere: a machine without a network
        addresses |= {str(found[4][0]).partition("%")[0] for found in socket.getaddrinfo(socket.gethostname(), None)}
    return _Names(frozenset(host_names()), frozenset(addresses))
