"""A stand-in for the model hub on loopback: one repository at one commit, as far as `hf download` needs it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@contextlib.contextmanager
def serving(repository: str, commit: str, contents: Mapping[str, bytes]) -> Iterator[str]:
    """Serve the files of a repository by their names. Yields the address for HF_ENDPOINT."""
    described = {"id": repository, "sha": commit, "private": False, "siblings": [{"rfilename": it} for it in contents]}
    about = json.dumps(described).encode()
    information = (f"/api/models/{repository}", *(f"/api/models/{repository}/revision/{it}" for it in ("main", commit)))
    answers = dict.fromkeys(information, about)
    listed = [{"type": "file", "path": it, "size": len(data), "oid": commit} for it, data in contents.items()]
    answers[f"/api/models/{repository}/tree/{commit}"] = json.dumps(listed).encode()
    answers |= {f"/{repository}/resolve/{commit}/{name}": data for name, data in contents.items()}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Print nothing."""

        def _answer(self) -> None:
            data = answers.get(self.path.partition("?")[0])
            self.send_response(404 if data is None else 200)
            self.send_header("X-Repo-Commit", commit)
            self.send_header("ETag", f'"{hashlib.sha256(data or b"").hexdigest()}"')
            self.send_header("Content-Length", str(len(data or b"")))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(data or b"")

        do_GET = do_HEAD = _answer  # noqa: N815

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
