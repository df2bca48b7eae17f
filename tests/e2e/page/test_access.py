"""The page and the credential that the server wants: the local stack's token, or an API key."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from playwright.async_api import Browser, BrowserContext, Page, WebSocket, expect
from prometheus_client import REGISTRY
from pydantic import SecretStr

from tests.integration.gateway.conftest import StartGateway, fakes, start_gateway
from tests.support.gateway_client import Client, new_voice

__all__ = ["fakes", "start_gateway"]

pytestmark = pytest.mark.slow

TOKEN = "t0ken-of-this-start"
KEY = "sk-of-a-tenant"
KEYS = SecretStr(f'{{"{KEY}": "default"}}')


def refused() -> float:
    """How many requests were refused because of the page that made them."""
    return REGISTRY.get_sample_value("chroma_voice_http_refused_total", {"reason": "foreign_origin"}) or 0.0


class Visit:
    """A page, and the calls that it makes: the credential of each request of the API and of each WebSocket."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.sent: list[tuple[str, str]] = []
        self.sockets: list[WebSocket] = []
        page.on("websocket", lambda socket: self.sockets.append(socket))  # playwright wraps functions only
        page.on("request", lambda request: self._note(request))

    def _note(self, request: Any) -> None:
        if "/v1/" in request.url:
            self.sent.append((request.url.rpartition("/v1/")[2], request.headers.get("authorization", "")))

    async def stored(self) -> tuple[str, str]:
        """What the browser keeps for the page: for good, and in this tab."""
        local, tab = await self.page.evaluate(
            "[JSON.stringify({...localStorage}), JSON.stringify({...sessionStorage})]"
        )
        return local, tab


async def _visit(context: BrowserContext | Browser, address: str) -> Visit:
    page = await context.new_page()
    page.set_default_timeout(30_000)
    visit = Visit(page)
    await page.goto(address)
    return visit


async def _write(page: Page, text: str) -> None:
    await page.get_by_label("Write instead").fill(text)
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("article").last).to_have_attribute("aria-busy", "false")
    await expect(page.get_by_role("article").last.locator(".fate.failed")).to_have_count(0)


async def _enrolled(client: Client, metadata: tuple[tuple[str, str], ...] = ()) -> str:
    await client.voices.CreateVoice(new_voice("ada"), metadata=metadata)
    return f"http://{client.http_address}/"


async def test_the_page_of_a_local_stack_sends_the_token_that_its_document_carries(
    browser: Browser, start_gateway: StartGateway
) -> None:
    async with start_gateway(page_token=SecretStr(TOKEN)) as client:
        address = await _enrolled(client)
        visit = await _visit(browser, address)
        await visit.page.locator("#talk:enabled").wait_for()
        await _write(visit.page, "hello")
        await visit.page.reload()
        await visit.page.locator("#talk:enabled").wait_for()
        assert {credential for _, credential in visit.sent} == {f"Bearer {TOKEN}"}
        assert all(TOKEN not in socket.url for socket in visit.sockets)
        assert all(TOKEN not in kept for kept in await visit.stored())
        await visit.page.close()


async def test_a_page_of_an_earlier_start_says_that_it_must_be_loaded_again(
    browser: Browser, start_gateway: StartGateway
) -> None:
    async with start_gateway(page_token=SecretStr(TOKEN)) as client:
        address = await _enrolled(client)
        visit = await _visit(browser, address)
        await visit.page.locator("#talk:enabled").wait_for()
        port = client.http_address
    async with start_gateway(page_token=SecretStr("another"), http_listen=port):
        await expect(visit.page.locator("#welcome-text")).to_contain_text("Load this page again")
        await expect(visit.page.locator("#key-form")).to_be_hidden()
        await visit.page.reload()
        await expect(visit.page.locator("#welcome-text")).not_to_contain_text("Load this page again")
        await visit.page.close()


async def test_the_page_asks_for_a_key_and_opens_its_websocket_with_a_short_lived_secret(
    browser: Browser, start_gateway: StartGateway
) -> None:
    async with start_gateway(api_keys=KEYS) as client:
        address = await _enrolled(client, (("authorization", f"Bearer {KEY}"),))
        context = await browser.new_context()
        visit = await _visit(context, address)
        page = visit.page
        await page.get_by_label("API key").fill("sk-wrong")
        await page.get_by_role("button", name="Use this key").click()
        await expect(page.locator("#notice")).to_contain_text("not known")
        assert visit.sockets == []
        await page.get_by_label("API key").fill(KEY)
        await page.keyboard.press("Enter")
        await page.locator("#talk:enabled").wait_for()
        await expect(page.locator("#key-form")).to_be_hidden()
        await _write(page, "hello")
        assert ("realtime/client_secrets", f"Bearer {KEY}") in visit.sent
        local, tab = await visit.stored()
        assert KEY in tab
        assert KEY not in local
        await page.get_by_role("button", name="Settings").click()
        await page.get_by_role("button", name="Forget the API key").click()
        await page.get_by_label("API key").wait_for()
        assert KEY not in (await visit.stored())[1]
        await context.close()


async def test_a_key_that_an_earlier_version_kept_for_good_is_removed(
    browser: Browser, start_gateway: StartGateway
) -> None:
    async with start_gateway() as client:
        address = await _enrolled(client)
        context = await browser.new_context()
        await context.add_init_script(
            "localStorage.setItem('chroma-voice.settings', JSON.stringify({apiKey: 'sk-old', silenceMs: 700}))"
        )
        visit = await _visit(context, address)
        await visit.page.locator("#talk:enabled").wait_for()
        local, _ = await visit.stored()
        assert "sk-old" not in local
        assert "700" in local
        await context.close()


async def test_a_page_of_another_origin_reaches_nothing(browser: Browser, start_gateway: StartGateway) -> None:
    """The attack of a web page on the gateway of its visitor's machine, in a real browser."""
    attack = """async (target) => {
        const opened = await new Promise((done) => {
            const socket = new WebSocket(target.replace("http", "ws") + "v1/realtime");
            socket.onopen = () => done("open");
            socket.onclose = () => done("closed");
        });
        const form = new FormData();
        form.set("voice_id", "alloy");
        const simple = { method: "POST", mode: "no-cors" };
        await fetch(target + "v1/voices", { ...simple, body: form }).catch(() => 0);
        await fetch(target + "v1/chat/completions", { ...simple, body: "{}" }).catch(() => 0);
        const read = await fetch(target + "v1/voices").then((answer) => answer.text()).catch(() => "unreadable");
        return [opened, read];
    }"""

    async def evil(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\nconnection: close\r\n\r\n<title>evil</title>")
        writer.close()

    site = await asyncio.start_server(evil, "127.0.0.1", 0)
    async with site, start_gateway() as client:
        target = await _enrolled(client)
        page = await browser.new_page()
        await page.goto(f"http://127.0.0.1:{site.sockets[0].getsockname()[1]}/")
        before = refused()
        assert await page.evaluate(attack, target) == ["closed", "unreadable"]
        assert refused() - before == 4
        await page.close()
