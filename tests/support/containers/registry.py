"""A registry of images on loopback that takes one push (OCI distribution specification, "Push")."""

from __future__ import annotations

import contextlib
import hashlib
import threading
import uuid
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit


class Registry:
    """What was pushed: the blobs by their digests, and the manifests by name and tag."""

    def __init__(self) -> None:
        self.port = 0
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[str, bytes] = {}

    def answer(self, method: str, path: str, body: bytes, uploads: dict[str, bytes]) -> tuple[int, dict[str, str]]:
        """Do what a request asks. Returns the status and the headers of the answer."""
        url = urlsplit(path)
        last = url.path.rpartition("/")[2]
        if url.path == "/v2/":
            return 200, {}
        if "/blobs/uploads/" in url.path:
            upload = last or uuid.uuid4().hex
            uploads[upload] = uploads.get(upload, b"") + body
            location = url.path if last else f"{url.path}{upload}"
            if method != "PUT":
                return 202, {"Location": location, "Range": f"0-{max(len(uploads[upload]) - 1, 0)}"}
            (digest,) = parse_qs(url.query)["digest"]
            content = uploads.pop(upload)
            if digest != _digest(content):
                return 400, {}
            self.blobs[digest] = content
            return 201, {"Location": location, "Docker-Content-Digest": digest}
        if "/manifests/" in url.path and method == "PUT":
            self.manifests[url.path.removeprefix("/v2/").replace("/manifests/", ":")] = body
            return 201, {"Location": url.path, "Docker-Content-Digest": _digest(body)}
        return (200, {"Content-Length": str(len(self.blobs[last]))}) if last in self.blobs else (404, {})


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


@contextlib.contextmanager
def registry() -> Iterator[Registry]:
    """A running registry, at its `port`. Requests for another host may come as to a proxy."""
    kept, uploads = Registry(), dict[str, bytes]()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            """Print nothing."""

        def _body(self) -> bytes:
            if self.headers.get("Transfer-Encoding") != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length", 0)))
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)

        def _answer(self) -> None:
            status, headers = kept.answer(self.command, self.path, self._body(), uploads)
            self.send_response(status)
            for name, value in ({"Content-Length": "0"} | headers).items():
                self.send_header(name, value)
            self.end_headers()

        do_GET = do_HEAD = do_POST = do_PATCH = do_PUT = _answer  # noqa: N815

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    kept.port = server.server_port
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield kept
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
