"""TLS credentials of the links between processes, from PEM files that may be replaced while a process runs."""

from __future__ import annotations

from pathlib import Path

import grpc


def server_credentials(cert: Path, key: Path, ca: Path | None) -> grpc.ServerCredentials:
    """The credentials of a server. With `ca`, callers must show a certificate that this authority signed.

    The files are read again on each handshake, so a renewed certificate needs no restart. When they cannot be read
    at that moment, the last ones stay in use. Raises OSError when a file is missing at the start.
    """
    paths = [path for path in (key, cert, ca) if path is not None]
    shown = [path.read_bytes() for path in paths]

    def configuration() -> grpc.ServerCertificateConfiguration:
        return grpc.ssl_server_certificate_configuration(
            [(shown[0], shown[1])], root_certificates=shown[2] if ca is not None else None
        )

    def newer() -> grpc.ServerCertificateConfiguration | None:
        try:
            found = [path.read_bytes() for path in paths]
        except OSError:
            return None
        if found == shown:
            return None
        shown[:] = found
        return configuration()

    return grpc.dynamic_ssl_server_credentials(
        configuration(),
        newer,  # pyright: ignore[reportArgumentType]  # None is allowed: nothing changed
        require_client_authentication=ca is not None,
    )


def stamps(*paths: Path) -> list[tuple[int, int, int]]:
    """What changes when a file is replaced. A symbolic link counts as the file that it names. Raises OSError."""
    found = [path.stat() for path in paths]
    return [(status.st_mtime_ns, status.st_ino, status.st_size) for status in found]


def channel_credentials(ca: Path, cert: Path | None, key: Path | None) -> grpc.ChannelCredentials:
    """The credentials of a caller: it trusts `ca` and, with `cert` and `key`, shows a certificate.

    The files are read once for each channel: after a renewal a new channel is needed.

    A channel to a bare address must name the service it expects, in the channel option
    `grpc.ssl_target_name_override`. Raises OSError when a file is missing.
    """
    return grpc.ssl_channel_credentials(
        root_certificates=ca.read_bytes(),
        private_key=key.read_bytes() if key else None,
        certificate_chain=cert.read_bytes() if cert else None,
    )
