"""What tests do on the page at `/` of a gateway."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from playwright.async_api import Browser, Locator, Page, expect

from tests.support.gateway_client import Client

PATIENCE_MS = 60_000

WATCH_DEVICES = """
    window.tracks = [];
    window.constraints = [];
    window.gains = [];
    window.blobs = [];
    window.outputs = [];
    const open = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
    navigator.mediaDevices.getUserMedia = async (wanted) => {
        const stream = await open(wanted);
        window.constraints.push(wanted.audio);
        window.tracks.push(...stream.getTracks());
        return stream;
    };
    const createGain = AudioContext.prototype.createGain;
    AudioContext.prototype.createGain = function () {
        const node = createGain.call(this);
        window.gains.push(node);
        return node;
    };
    const setSinkId = AudioContext.prototype.setSinkId;
    AudioContext.prototype.setSinkId = async function (device) {
        await setSinkId.call(this, device);
        window.outputs.push(this.sinkId);
    };
    const address = URL.createObjectURL.bind(URL);
    URL.createObjectURL = (blob) => {
        window.blobs.push(blob);
        return address(blob);
    };
"""
"""Notes the microphones that the page opens, the volumes and loudspeakers that it sets, and the files that it makes."""


@asynccontextmanager
async def opened(browser: Browser, client: Client, *, is_ready: bool = True, **options: Any) -> AsyncIterator[Page]:
    """A page of the gateway in a browser context of its own, with `options`. It must raise no error.

    `is_ready`: whether to wait until the user can talk.
    """
    context = await browser.new_context(**options)
    await context.add_init_script(WATCH_DEVICES)
    page = await context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: print("console:", message.text))
    page.on("requestfailed", lambda request: print("failed:", request.url, request.failure))
    await page.goto(f"http://{client.http_address}/")
    if is_ready:
        await ready(page)
    yield page
    assert errors == []
    await context.close()


async def ready(page: Page) -> None:
    """Wait until the user can talk."""
    await page.locator("#talk:enabled").wait_for()


async def write(page: Page, text: str) -> Locator:
    """Ask a written question. Returns its turn, which may still run."""
    turns = page.get_by_role("article")
    count = await turns.count()
    await page.get_by_label("Write instead").fill(text)
    await page.keyboard.press("Enter")
    await expect(turns).to_have_count(count + 1)
    return turns.nth(count)


async def over(turn: Locator) -> None:
    """Wait until a turn has ended."""
    await expect(turn).to_have_attribute("aria-busy", "false")


async def answered(page: Page, text: str) -> Locator:
    """Ask a written question and wait for its reply. Returns its turn."""
    turn = await write(page, text)
    await over(turn)
    await expect(turn.locator(".fate.failed")).to_have_count(0)
    return turn


async def played(page: Page) -> None:
    """Wait until nothing is played any more."""
    await expect(page.locator("#phase")).to_contain_text("Hold the button")


async def told(page: Page, message: str) -> None:
    """Wait until the page tells the user this."""
    await expect(page.locator("#notice")).to_contain_text(message)
