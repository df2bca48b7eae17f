"""A page of your own that talks to the model. The server of the page makes the secrets with which browsers connect.

The gateway needs API keys: without them, only its own page may call it from a browser.

chroma-voice key new --id page --tenant default > page.key
export CHROMA_API_KEY=$(cat page.key)
CHROMA_HTTP_ORIGINS=http://localhost:3000 chroma-voice up --detach --http 127.0.0.1:8080 --keys keys.json
python examples/browser/serve.py http://127.0.0.1:8080 --port 3000      # and open http://localhost:3000
"""

from __future__ import annotations

import argparse
import json
import os
import urllib.request
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Page(SimpleHTTPRequestHandler):
    """Serves the files beside this one, and POST /secret."""

    def __init__(self, *arguments: object, gateway: str, **options: object) -> None:
        self._gateway = gateway.rstrip("/")
        super().__init__(*arguments, directory=str(Path(__file__).parent), **options)  # pyright: ignore

    def do_POST(self) -> None:
        """Answer with the gateway's address and a secret that expires soon. The API key stays here."""
        headers = {"content-type": "application/json"}
        headers["authorization"] = f"Bearer {os.environ['CHROMA_API_KEY']}"
        asked = urllib.request.Request(f"{self._gateway}/v1/realtime/client_secrets", b"{}", headers)
        with urllib.request.urlopen(asked) as answer:
            secret = json.load(answer)["value"]
        body = json.dumps({"url": f"{self._gateway.replace('http', 'ws', 1)}/v1/realtime", "secret": secret}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("gateway", help="URL of the gateway, such as http://127.0.0.1:8080")
    parser.add_argument("--port", type=int, default=3000)
    asked = parser.parse_args()
    server = ThreadingHTTPServer(("127.0.0.1", asked.port), partial(Page, gateway=asked.gateway))
    print(f"open http://localhost:{server.server_port}", flush=True)
    server.serve_forever()
