from __future__ import annotations

import re

import httpx
import pytest

from gateway.api.page import WEB, page


@pytest.fixture
def browser() -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(page()), base_url="http://gateway")  # pyright: ignore[reportArgumentType]


async def test_the_page_loads_nothing_from_elsewhere_and_no_page_may_frame_it(browser: httpx.AsyncClient) -> None:
    response = await browser.get("/")
    policy = dict(part.split(" ", 1) for part in response.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["frame-ancestors"] == "'none'"
    assert {source for name in ("script-src", "style-src", "connect-src") for source in policy[name].split()} == {
        "'self'"
    }
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["permissions-policy"].startswith("microphone=(self)")


async def test_every_file_that_the_page_names_is_served(browser: httpx.AsyncClient) -> None:
    named = set(re.findall(r'(?:src|href)="([\w.-]+)"', (WEB / "index.html").read_text()))
    for script in WEB.glob("*.js"):
        named |= set(re.findall(r'(?:from|addModule\()\s*"(?:\./)?([\w-]+\.js)"', script.read_text()))
    assert named == {file.name for file in WEB.iterdir()} - {"index.html"}
    for name in named:
        response = await browser.get(f"/{name}")
        assert response.status_code == 200
        if name.endswith(".js"):
            assert response.headers["content-type"].startswith("text/javascript")


async def test_no_page_is_a_404(browser: httpx.AsyncClient) -> None:
    with pytest.raises(Exception, match="404"):
        await browser.get("/%2e%2e/settings.py")
