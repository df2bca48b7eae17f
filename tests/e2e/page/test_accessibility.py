"""The page for everybody: axe finds nothing in any state, and nothing is hidden in small or zoomed windows."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, Locator, Page, expect

from tests.e2e.page.test_conversation import CARD
from tests.integration.gateway.conftest import Fakes, StartGateway, fakes, start_gateway
from tests.support.gateway_client import Client, new_voice
from tests.support.page import answered, opened, over, played, told, write

__all__ = ["fakes", "start_gateway"]

pytestmark = pytest.mark.slow

AXE = "axe-core@4.11.0"
DESK, PHONE = {"width": 1180, "height": 820}, {"width": 390, "height": 844}
SMALL = {
    "a phone on its side": {"width": 667, "height": 375},
    "200 % zoom": {"width": 640, "height": 400},
    "400 % zoom": {"width": 320, "height": 256},
}


@pytest.fixture(scope="module")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The source of axe-core, which finds faults of accessibility."""
    folder = tmp_path_factory.mktemp("axe")
    command = ["npm", "install", "--no-audit", "--no-fund", "--silent", "--prefix", str(folder), AXE]
    subprocess.run(command, check=True, timeout=250)
    return (Path(folder) / "node_modules" / "axe-core" / "axe.min.js").read_text()


@pytest.fixture
async def client(start_gateway: StartGateway, fakes: Fakes) -> AsyncIterator[Client]:
    """A client of a gateway with a voice, whose checkpoint has a card."""
    fakes.reasoner.script.card = CARD
    await fakes.reasoner.restart()
    async with start_gateway() as client:
        await client.voices.CreateVoice(new_voice("ada"))
        yield client


async def _check(page: Page, axe: str) -> None:
    await page.evaluate(axe + ";0")
    found: list[dict[str, Any]] = (await page.evaluate("axe.run()"))["violations"]
    assert [(fault["id"], [node["html"][:200] for node in fault["nodes"]]) for fault in found] == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("window", [DESK, PHONE], ids=["desk", "phone"])
async def test_axe_finds_nothing_in_any_state(
    browser: Browser, client: Client, fakes: Fakes, axe: str, window: dict[str, int], scheme: str
) -> None:
    options = {"viewport": window, "color_scheme": scheme, "reduced_motion": "reduce"}
    async with opened(browser, client, **options) as page:
        await _check(page, axe)  # the welcome
        await answered(page, "question")
        await played(page)
        await _check(page, axe)  # a reply
        fakes.speech_gen.script.hold_at = 6
        await write(page, "question")
        await expect(page.locator("#phase")).to_contain_text("Speaking")
        await page.keyboard.press("Escape")
        await _check(page, axe)  # an interrupted one
        fakes.speech_gen.script.hold_at = None
        fakes.speech_gen.script.go.set()
        await page.get_by_role("button", name="Hold to talk").click()
        await told(page, "Hold the button")
        await _check(page, axe)  # a notice
        await page.get_by_role("button", name="Settings").click()
        await page.get_by_label("System prompt").fill("a" * 40_000)
        await page.keyboard.press("Tab")
        await expect(page.locator("#instructions-error")).to_be_visible()
        await _check(page, axe)  # the settings with an error
        await page.keyboard.press("Escape")
        await page.locator("#open-voices").click()
        await page.get_by_text("Clone a voice").click()
        await page.get_by_role("button", name="Record 10 seconds").click()
        await expect(page.locator("#take-status")).to_be_visible()
        await _check(page, axe)  # a recording


async def test_axe_finds_nothing_where_something_is_missing(
    browser: Browser, start_gateway: StartGateway, axe: str
) -> None:
    async with start_gateway() as client, opened(browser, client, is_ready=False) as page:
        await page.get_by_role("button", name="Add a voice").wait_for()
        await _check(page, axe)


async def _can_be_reached(page: Page, control: Locator) -> None:
    """The user can scroll to a control, and nothing covers it."""
    await control.scroll_into_view_if_needed()
    await expect(control).to_be_in_viewport()
    is_on_top = """(control) => {
        const { x, y, width, height } = control.getBoundingClientRect();
        const top = document.elementFromPoint(x + width / 2, y + height / 2);
        return control === top || control.contains(top);
    }"""
    assert await control.evaluate(is_on_top), f"{control} is covered"
    assert await control.evaluate("(control) => control.getBoundingClientRect().right <= innerWidth")


LOUDEST = """() => {
    const style = new CSSStyleSheet();
    style.replaceSync("#talk { --level: 0.75 !important } .ring { transition: none !important }");
    document.adoptedStyleSheets = [style];
}"""
"""The ring of the talk button has the size for the loudest sound."""
OVERLAP = """() => {
    const text = document.createRange();
    text.selectNodeContents(document.querySelector("#phase"));
    const words = text.getBoundingClientRect();
    const ring = document.querySelector("#talk .ring").getBoundingClientRect();
    const wide = Math.min(words.right, ring.right) - Math.max(words.left, ring.left);
    return [words.width > 0, wide > 0 && Math.min(words.bottom, ring.bottom) > Math.max(words.top, ring.top)];
}"""
"""Whether the state of the conversation is there, and whether the ring of the talk button touches it."""


async def test_the_ring_at_its_largest_is_off_the_text_in_every_window(browser: Browser, client: Client) -> None:
    async with opened(browser, client) as page:
        await page.evaluate(LOUDEST)
        for window in (DESK, PHONE, *SMALL.values()):
            await page.set_viewport_size({"width": window["width"], "height": window["height"]})
            assert await page.evaluate(OVERLAP) == [True, False], window


@pytest.mark.parametrize("window", SMALL.values(), ids=SMALL)
async def test_nothing_is_hidden_in_a_small_window(browser: Browser, client: Client, window: dict[str, int]) -> None:
    async with opened(browser, client, viewport=window) as page:
        for example in await page.locator(".example").all():
            await _can_be_reached(page, example)
        for question in ("one", "two", "three"):
            turn = await answered(page, question)
            await expect(turn.locator(".reply")).to_be_in_viewport(ratio=0.5)
        await played(page)
        assert await page.evaluate("document.documentElement.scrollWidth") == window["width"]
        names = ("New conversation", "Copy the conversation", "Settings", "Hold to talk", "Mute the replies", "Send")
        for name in names:
            await _can_be_reached(page, page.get_by_role("button", name=name))
        for control in ("#open-voices", "#text", ".modes label:nth-of-type(2)"):
            await _can_be_reached(page, page.locator(control))
        await _can_be_reached(page, turn.get_by_role("button", name="Copy text"))
        await page.locator("#open-settings").click()
        for field in await page.locator("#settings input, #settings textarea").all():
            await _can_be_reached(page, field)


LIFT = """(px) => {
    const above = document.createElement("div");
    above.style.height = `${px}px`;
    document.querySelector("main").prepend(above);
    scrollTo(0, 0);
}"""
"""Moves the view without the user, as a layout that changes does."""


@pytest.mark.parametrize("is_user", [False, True], ids=["the layout", "the user"])
async def test_a_low_window_leaves_the_reply_only_when_the_user_scrolls(
    browser: Browser, client: Client, fakes: Fakes, is_user: bool
) -> None:
    async with opened(browser, client, viewport=SMALL["400 % zoom"]) as page:
        await answered(page, "one")
        await played(page)
        fakes.speech_gen.script.hold_at = 6
        turn = await write(page, "two")
        await expect(page.locator("#phase")).to_contain_text("Speaking")
        if is_user:
            await page.mouse.wheel(0, -10_000)
            await expect(page.locator(".top")).to_be_in_viewport()
        else:
            await page.evaluate(LIFT, 600)
        fakes.speech_gen.script.go.set()
        await over(turn)
        if is_user:
            await expect(page.locator(".top")).to_be_in_viewport()
        else:
            await expect(turn.locator(".reply")).to_be_in_viewport(ratio=0.5)
