"""Certificates for tests, as files in the layout of a Kubernetes Secret."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import trustme


def write_pair(folder: Path, authority: trustme.CA, name: str, *, not_after: datetime | None = None) -> None:
    """Write tls.crt, tls.key and ca.crt: a certificate for `name` that `authority` signs."""
    certificate = authority.issue_cert(name, not_after=not_after)
    (folder / "tls.crt").write_bytes(b"".join(blob.bytes() for blob in certificate.cert_chain_pems))
    (folder / "tls.key").write_bytes(certificate.private_key_pem.bytes())
    authority.cert_pem.write_to_path(str(folder / "ca.crt"))
