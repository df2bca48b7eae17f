"""A self-signed certificate for the page. Browsers give no microphone to a page from another machine by plain HTTP."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

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
        """SHA-256 of the certificate, as browsers show it: compare it before you trust it."""
        digest = x509.load_pem_x509_certificate(self.chain.read_bytes()).fingerprint(hashes.SHA256())
        return digest.hex(":").upper()


def certificate(folder: Path) -> Certificate:
    """The certificate kept in `folder`. A new one is made when none fits this machine or it expires soon."""
    found = Certificate(folder / "certificate.pem", folder / "key.pem")
    names = _names()
    if found.key.exists() and found.chain.exists() and _still_good(found.chain, names):
        return found
    folder.mkdir(parents=True, exist_ok=True)
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    found.key.unlink(missing_ok=True)
    with os.fdopen(os.open(found.key, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(pem)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "chroma-voice on this machine")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=_VALID_DAYS))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    found.chain.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    return found


def _still_good(chain: Path, names: list[x509.GeneralName]) -> bool:
    kept = x509.load_pem_x509_certificate(chain.read_bytes())
    if kept.not_valid_after_utc < datetime.now(UTC) + timedelta(days=_RENEW_DAYS):
        return False
    alternatives = kept.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return set(names) <= set(alternatives)


def _names() -> list[x509.GeneralName]:
    """The names and addresses of this machine, as this machine and its neighbours use them."""
    name = socket.gethostname()
    hosts = dict.fromkeys(host for host in ("localhost", name, f"{name}.local") if host.isascii())
    addresses = {"127.0.0.1", "::1"}
    with contextlib.suppress(OSError):  # the name resolves nowhere: a machine without a network
        addresses |= {str(found[4][0]).partition("%")[0] for found in socket.getaddrinfo(name, None)}
    return [
        *(x509.DNSName(host) for host in hosts),
        *(x509.IPAddress(ipaddress.ip_address(address)) for address in sorted(addresses)),
    ]
