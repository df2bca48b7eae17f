from __future__ import annotations

from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, expect

from chroma_voice.local.checkpoint import TINY
from tests.support.local_stack import PATIENCE_S, LocalStack, run

pytestmark = pytest.mark.slow


async def write(page: Page, text: str) -> None:
    await page.get_by_label("Write instead").fill(text)
    await page.keyboard.press("Enter")
    turn = page.get_by_role("article").last
    await expect(turn.locator(".you")).to_contain_text(text)
    await expect(turn).to_have_attribute("aria-busy", "false")
    await expect(turn.locator(".fate.failed")).to_have_count(0)


async def test_a_lost_connection_comes_back_and_its_session_goes_on(browser: Browser, nano: LocalStack) -> None:
    page = await browser.new_page()
    page.set_default_timeout(PATIENCE_S * 1000)
    sockets: list[str] = []
    page.on("websocket", lambda socket: sockets.append(socket.url))
    await page.goto(nano.endpoints.page)
    await page.locator("#talk:enabled").wait_for()
    await write(page, "How do I make a taco?")
    pid = nano.kill("gateway")
    await expect(page.locator("#connection")).to_contain_text("Connection lost")
    await nano.back("gateway", pid)
    await expect(page.locator("#talk")).to_be_enabled()
    await write(page, "And for six people?")
    session_id = sockets[-1].rpartition("session_id=")[2]
    async with nano.client() as client:
        session = await client.get_session(session_id)
    said = [entry.text for entry in session.entries if entry.speaker == "user"]
    assert said == ["How do I make a taco?", "And for six people?"]
    await page.close()


async def test_a_page_that_was_idle_for_too_long_goes_on_with_its_session(browser: Browser, tmp_path: Path) -> None:
    stack = LocalStack(tmp_path)
    run("up", "--detach", "--state", tmp_path, "--model", TINY, CHROMA_IDLE_LIMIT_S="4")
    try:
        stack.enrol()
        page = await browser.new_page()
        page.set_default_timeout(PATIENCE_S * 1000)
        sockets: list[str] = []
        page.on("websocket", lambda socket: sockets.append(socket.url))
        await page.goto(stack.endpoints.page)
        await page.locator("#talk:enabled").wait_for()
        await write(page, "How do I make a taco?")
        async with page.expect_websocket():
            pass
        await page.locator("#talk:enabled").wait_for()
        await write(page, "And for six people?")
        session_id = sockets[-1].rpartition("session_id=")[2]
        async with stack.client() as client:
            session = await client.get_session(session_id)
        said = [entry.text for entry in session.entries if entry.speaker == "user"]
        assert said == ["How do I make a taco?", "And for six people?"]
    finally:
        stack.stop()


async def test_https_with_a_self_made_certificate_gives_the_page_a_microphone(browser: Browser, tmp_path: Path) -> None:
    stack = LocalStack(tmp_path)
    printed = run("up", "--detach", "--state", tmp_path, "--model", TINY, "--tls")
    try:
        stack.enrol()
        address = stack.endpoints.page
        assert address.startswith("https://")
        assert f"page:  {address}" in printed
        assert "SHA-256" in printed
        context = await browser.new_context(ignore_https_errors=True)
        page = await context.new_page()
        page.set_default_timeout(PATIENCE_S * 1000)
        await page.goto(address)
        assert await page.evaluate("isSecureContext && 'mediaDevices' in navigator")
        await page.locator("#talk:enabled").wait_for()
        await page.get_by_label("Hands-free").check()
        await page.get_by_role("button", name="Open the microphone").click()
        await expect(page.get_by_role("article").first).to_be_visible()
        await context.close()
    finally:
        stack.stop()
