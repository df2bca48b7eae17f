"""The TLS context of the HTTP server, from PEM files that may be replaced while the process runs."""

from __future__ import annotations

import logging
import ssl
from pathlib import Path

from services.common.rpc.tls import stamps

log = logging.getLogger(__name__)


def renewing_context(cert: Path, key: Path) -> ssl.SSLContext:
    """Return a server's context that shows the certificate chain of `cert` and speaks TLS 1.2 or newer.

    The files are looked at on each handshake, so a renewed certificate needs no restart. When they cannot be read or do
    not fit each other at that moment, the last ones stay in use. Raises OSError (ssl.SSLError is one) for bad files at
    the start.
    """
    current, shown = _context(cert, key), stamps(cert, key)

    def renew(handshake: ssl.SSLSocket | ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        nonlocal current, shown
        try:
            if (found := stamps(cert, key)) != shown:
                current, shown = _context(cert, key), found
        except OSError as error:
            log.warning("the renewed certificate of the HTTP server cannot be used: %s", error)
        handshake.context = current

    # OpenSSL asks for the certificate of the client's server name on each handshake, also when the client names none.
    first = _context(cert, key)
    first.sni_callback = renew  # pyright: ignore[reportAttributeAccessIssue]  # typeshed knows SSLSocket only
    return first


def _context(cert: Path, key: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(cert, key)
    return context
