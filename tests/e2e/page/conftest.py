from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, ConsoleMessage, Page, async_playwright, expect

from tests.support.local_stack import PATIENCE_S, QUESTION, LocalStack
from tests.support.paths import ROOT

expect.set_options(timeout=PATIENCE_S * 1000)

MICROPHONE = (
    "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream",
    f"--use-file-for-fake-audio-capture={QUESTION}",
)
"""The question is the sound of the microphone, again and again."""


@pytest.fixture(scope="session")
def chromium() -> str:
    script = Path(__file__).parent / "fetch-chromium.sh"
    fetched = subprocess.run([script, ROOT / "build" / "chromium"], check=True, stdout=subprocess.PIPE, timeout=280)
    return fetched.stdout.decode().strip()


@pytest.fixture
async def browser(chromium: str) -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=[*MICROPHONE, "--no-sandbox"])
        yield browser
        await browser.close()


@pytest.fixture
async def page(browser: Browser, nano: LocalStack) -> AsyncIterator[Page]:
    """The page with an open connection. Fails the test if the page logs anything or calls another server."""
    page = await browser.new_page()
    page.set_default_timeout(PATIENCE_S * 1000)
    logged: list[str] = []
    asked: list[str] = []

    def log(message: ConsoleMessage) -> None:
        logged.append(message.text)

    page.on("console", log)
    page.on("pageerror", lambda error: logged.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    await page.goto(nano.endpoints.page)
    await page.locator("#talk:enabled").wait_for()
    yield page
    assert logged == []
    assert [url for url in asked if not url.startswith((nano.endpoints.page, "blob:"))] == []
