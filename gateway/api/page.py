"""The web page at `/`: the static files of `web/`, and in the document the token of a local stack."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import NoReturn

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.api.errors import refusal

WEB = Path(__file__).parent / "web"

_METHODS = ("GET", "HEAD")


def page(token: str = "") -> ASGIApp:
    """Return the page as an ASGI application. Mount it last: it answers all paths that have no other route.

    The document carries `token`, which the page sends with its calls. A page of another origin can call this server,
    but the browser does not let it read the document.
    """
    document = (WEB / "index.html").read_text(encoding="utf-8")
    if token:
        document = document.replace("<title>", f'<meta name="page-token" content="{escape(token)}" />\n    <title>')
    files = StaticFiles(directory=WEB, html=True)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            answer = refusal(404, "not_found", "there is no WebSocket at this path: try /v1/realtime")
            await answer(scope, receive, send)
        elif scope["method"] in _METHODS and scope["path"] in ("", "/", "/index.html"):
            await HTMLResponse(document, headers={"Cache-Control": "no-store"})(scope, receive, send)
        elif scope["method"] in _METHODS:
            await files(scope, receive, send)
        else:
            await _refuse(files, scope)

    return app


async def _refuse(files: StaticFiles, scope: Scope) -> NoReturn:
    """Refuse a request with another method than GET: 405 where the page has a file, else 404."""
    await files.get_response(files.get_path(scope), {**scope, "method": "HEAD"})  # raises the 404
    raise HTTPException(405, headers={"Allow": ", ".join(_METHODS)})


async def docs(request: Request) -> FileResponse:
    """GET: the page that describes the HTTP API."""
    return FileResponse(WEB / "docs.html")
