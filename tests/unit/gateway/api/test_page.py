from __future__ import annotations

import re

import httpx
import pytest

from gateway.api.page import WEB, page


@pytest.fixture
def browser() -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(page()), base_url="http://localhost")  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("document", ["index.html", "docs.html"])
def test_a_document_has_no_inline_script_or_style(document: str) -> None:
    text = (WEB / document).read_text()
    assert re.findall(r"<script(?![^>]* src=)|<style|\sstyle=|\son\w+=|javascript:", text) == []


async def test_every_file_that_the_page_names_is_served(browser: httpx.AsyncClient) -> None:
    documents = {"index.html", "docs.html"}
    named: set[str] = set()
    for document in documents:
        named |= set(re.findall(r'(?:src|href)="([\w.-]+)"', (WEB / document).read_text())) - {"openapi.json"}
    for script in WEB.glob("*.js"):
        named |= set(re.findall(r'(?:from|addModule\()\s*"(?:\./)?([\w-]+\.js)"', script.read_text()))
    assert named == {file.name for file in WEB.iterdir()} - documents
    for name in named:
        response = await browser.get(f"/{name}")
        assert response.status_code == 200
        if name.endswith(".js"):
            assert response.headers["content-type"].startswith("text/javascript")


async def test_no_page_is_a_404(browser: httpx.AsyncClient) -> None:
    with pytest.raises(Exception, match="404"):
        await browser.get("/%2e%2e/settings.py")


@pytest.mark.parametrize("path", ["/", "/index.html"])
async def test_the_document_carries_the_token_and_is_not_kept_by_the_browser(path: str) -> None:
    app = page('a"token')
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as browser:  # pyright: ignore[reportArgumentType]
        response = await browser.get(path)
    assert '<meta name="page-token" content="a&quot;token" />' in response.text
    assert response.headers["cache-control"] == "no-store"


async def test_without_a_token_the_document_is_the_file(browser: httpx.AsyncClient) -> None:
    assert (await browser.get("/")).text == (WEB / "index.html").read_text()
