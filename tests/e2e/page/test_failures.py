"""The page tells the truth when something goes wrong. The gateway is real, the model services are fakes."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Browser, Page, WebSocketRoute, expect

from chroma.v1.dialogue_pb2 import DeleteVoiceRequest
from services.common.errors import OutOfRange
from services.common.wire.audio import HEARING_RATE_HZ
from tests.integration.gateway.conftest import Fakes, StartGateway, fakes, start_gateway
from tests.support.gateway_client import Client, new_voice
from tests.support.page import PATIENCE_MS, answered, opened, over, ready, told, write

__all__ = ["fakes", "start_gateway"]

pytestmark = pytest.mark.slow

HOLDS_AT = 6
"""Frames of a reply that come before it stops: half a second of sound."""


@pytest.fixture
async def client(start_gateway: StartGateway) -> AsyncIterator[Client]:
    """A client of a gateway with a voice."""
    async with start_gateway() as client:
        await client.voices.CreateVoice(new_voice("ada"))
        yield client


async def _speaks(page: Page) -> None:
    await expect(page.locator("#phase")).to_contain_text("Speaking")


class Network:
    """The network between a page and the gateway: it can be cut."""

    def __init__(self) -> None:
        self.is_up = True
        self._sockets: list[WebSocketRoute] = []

    async def put_between(self, page: Page) -> None:
        """Let the page's further WebSockets go through this network."""
        await page.route_web_socket("**/v1/realtime*", self._carry)

    async def _carry(self, socket: WebSocketRoute) -> None:
        if not self.is_up:
            await socket.close()
            return
        self._sockets.append(socket)
        socket.connect_to_server()

    async def cut(self) -> None:
        """End all connections, and let none begin."""
        self.is_up = False
        for socket in self._sockets:
            await socket.close(code=4000)
        self._sockets.clear()


async def test_a_server_lost_in_the_middle_of_a_reply_leaves_a_true_picture(
    browser: Browser, client: Client, fakes: Fakes
) -> None:
    network = Network()
    async with opened(browser, client) as page:
        await network.put_between(page)
        await page.reload()
        await ready(page)
        fakes.speech_gen.script.hold_at = HOLDS_AT
        cut = await write(page, "first")
        await _speaks(page)
        await network.cut()
        await expect(cut.locator(".fate.failed")).to_contain_text("The connection was lost: the reply ends here.")
        await expect(page.locator("#phase")).to_have_text("Connection lost. Trying again…")
        await expect(page.locator("#stop")).to_be_hidden()
        field = page.get_by_label("Write instead")
        await field.fill("second")
        await page.keyboard.press("Enter")
        await told(page, "There is no connection at the moment")
        await expect(field).to_have_value("second")
        fakes.speech_gen.script.hold_at = None
        fakes.speech_gen.script.go.set()
        network.is_up = True
        await ready(page)
        await field.press("Enter")
        answer = page.get_by_role("article").nth(1)
        await over(answer)
        await expect(answer.locator(".reply")).to_contain_text("Hello, dear world.")
        await expect(page.locator(".fate.failed")).to_have_count(1)
        await expect(page.locator("#notice")).to_be_hidden()
        await expect(cut.locator(".fate")).to_contain_text("The connection was lost")


async def _set_prompt(page: Page, prompt: str) -> None:
    """Set the system prompt and leave the settings."""
    await page.get_by_role("button", name="Settings").click()
    await page.get_by_label("System prompt").fill(prompt)
    await page.keyboard.press("Tab")


async def _in_use(page: Page, prompt: str) -> None:
    """Wait until the page has taken a system prompt over."""
    kept = "() => JSON.parse(localStorage.getItem('chroma-voice.settings') ?? '{}').instructions ?? ''"
    async with asyncio.timeout(PATIENCE_MS / 1000):
        while await page.evaluate(kept) != prompt:
            await page.wait_for_timeout(20)
    await page.get_by_role("button", name="Close").click()


async def test_an_emptied_system_prompt_goes_back_to_the_default(
    browser: Browser, client: Client, fakes: Fakes
) -> None:
    async with opened(browser, client) as page:
        for prompt in ("You are a pirate.", ""):
            await _set_prompt(page, prompt)
            await _in_use(page, prompt)
            await answered(page, "question")
            assert fakes.reasoner.script.opened[-1].system_prompt == prompt
            assert fakes.reasoner.script.opened[-1].HasField("system_prompt") == bool(prompt)


async def test_a_system_prompt_that_is_too_long_is_refused_when_it_is_set(
    browser: Browser, start_gateway: StartGateway, fakes: Fakes
) -> None:
    async with start_gateway(max_prompt_chars=100) as client:
        await client.voices.CreateVoice(new_voice("ada"))
        async with opened(browser, client) as page:
            await _set_prompt(page, "Be brief.")
            await _in_use(page, "Be brief.")
            error = page.locator("#instructions-error")
            await _set_prompt(page, "a" * 101)
            await expect(error).to_have_text(
                "This prompt is not in use. The server takes at most 100 characters, this has 101."
            )
            await page.get_by_role("button", name="Close").click()
            fakes.reasoner.script.refusal = OutOfRange("the conversation takes 9000 positions or more")
            await _set_prompt(page, "Too long for the model.")
            await expect(error).to_contain_text("This prompt is not in use.")
            await expect(error).to_contain_text("too long for this model")
            fakes.reasoner.script.refusal = None
            await page.get_by_role("button", name="Close").click()
            await answered(page, "question")
            assert fakes.reasoner.script.opened[-1].system_prompt == "Be brief."
            await _set_prompt(page, "Be kind.")
            await _in_use(page, "Be kind.")
            await expect(error).to_be_hidden()


async def test_a_conversation_that_the_model_has_no_room_for_is_told_in_plain_words(
    browser: Browser, client: Client, fakes: Fakes
) -> None:
    fakes.reasoner.script.refusal = OutOfRange("the conversation takes 9000 positions or more, the reasoner has 8192")
    async with opened(browser, client) as page:
        turn = await write(page, "question")
        await expect(turn.locator(".fate.failed")).to_contain_text("begin a new conversation")


@pytest.mark.parametrize("transcribes", [True, False])
async def test_what_the_user_says_is_written_down_unless_the_server_does_not(
    browser: Browser, start_gateway: StartGateway, *, transcribes: bool
) -> None:
    async with start_gateway(transcribe=transcribes) as client:
        await client.voices.CreateVoice(new_voice("ada"))
        async with opened(browser, client) as page:
            await _hold(page)
            turn = page.get_by_role("article").first
            await over(turn)
            words = "Hello, dear world." if transcribes else "Spoken"  # the fake's transcript is its reply
            await expect(turn.locator(".you")).to_have_text(f"You{words}")
            await page.get_by_role("button", name="Settings").click()
            switch = page.get_by_label("Write down what I say")
            await expect(switch).to_be_checked()
            await expect(switch).to_be_enabled(enabled=transcribes)
            await expect(page.locator("#notice")).to_be_hidden()


async def test_without_a_voice_the_page_says_so_and_offers_to_add_one(
    browser: Browser, start_gateway: StartGateway
) -> None:
    async with start_gateway() as client, opened(browser, client, is_ready=False) as page:
        await expect(page.get_by_role("heading", name="No voice yet.")).to_be_visible()
        await expect(page.locator("#phase")).to_have_text("No voice yet")
        await expect(page.locator("#connection")).to_be_empty()
        await page.get_by_label("Write instead").fill("question")
        await page.keyboard.press("Enter")
        await told(page, "Add a voice first")
        await page.get_by_role("button", name="Add a voice").click()
        await expect(page.get_by_role("button", name="Record 10 seconds")).to_be_visible()


async def test_a_voice_that_was_deleted_elsewhere_is_named_and_another_one_speaks(
    browser: Browser, client: Client
) -> None:
    await client.voices.CreateVoice(new_voice("bea"))
    async with opened(browser, client) as page:
        await expect(page.locator("#voice-name")).to_have_text("ada")
        await client.voices.DeleteVoice(DeleteVoiceRequest(voice_id="ada"))
        turn = await write(page, "question")
        await told(page, "The voice ada was deleted. bea speaks from now on.")
        await expect(turn.locator(".fate.failed")).to_have_text("The voice was deleted. Please ask again.")
        await expect(page.locator("#voice-name")).to_have_text("bea")
        await answered(page, "again")


async def _hold(page: Page, ms: int = 1_000) -> None:
    """Hold the talk button for some time of speech."""
    await page.get_by_role("button", name="Hold to talk").hover()
    await page.mouse.down()
    await expect(page.locator("#phase")).to_contain_text("Listening")
    await page.wait_for_timeout(ms)
    await page.mouse.up()


async def test_a_turn_at_its_limit_is_announced_and_sent_before_the_button_is_released(
    browser: Browser, start_gateway: StartGateway, fakes: Fakes
) -> None:
    async with start_gateway(max_input_s=3.0) as client:
        await client.voices.CreateVoice(new_voice("ada"))
        async with opened(browser, client) as page:
            await page.get_by_role("button", name="Hold to talk").hover()
            await page.mouse.down()
            await expect(page.locator("#phase")).to_contain_text(re.compile(r"Listening\. \d+ s are left"))
            turn = page.get_by_role("article").first
            await over(turn)
            await expect(turn.locator(".reply")).to_contain_text("Hello, dear world.")
            await told(page, "A turn can have 3 seconds. Yours was sent.")
            await page.mouse.up()
            await expect(page.get_by_role("article")).to_have_count(1)
    heard_s = sum(len(part) for part in fakes.reasoner.script.heard) / 2 / HEARING_RATE_HZ
    assert 2.4 < heard_s <= 3.0


async def test_escape_closes_a_sheet_and_leaves_the_reply_alone(browser: Browser, client: Client, fakes: Fakes) -> None:
    fakes.speech_gen.script.hold_at = HOLDS_AT
    async with opened(browser, client) as page:
        turn = await write(page, "question")
        await _speaks(page)
        for button in ("#open-settings", "#open-voices"):
            await page.locator(button).click()
            await page.keyboard.press("Escape")
            await expect(page.locator("dialog[open]")).to_have_count(0)
        await expect(page.locator("#phase")).to_contain_text("Speaking")
        await page.keyboard.press("Escape")
        await expect(turn.locator(".fate.interrupted")).to_contain_text("Interrupted after")
    fakes.speech_gen.script.go.set()


async def test_the_microphone_ends_when_the_button_is_released(browser: Browser, client: Client) -> None:
    async with opened(browser, client) as page:
        for count in (1, 2):
            await _hold(page)
            await over(page.get_by_role("article").nth(count - 1))
            states = await page.evaluate("window.tracks.map((track) => track.readyState)")
            assert states == ["ended"] * count


async def test_hands_free_counts_from_the_last_spoken_word(browser: Browser, client: Client) -> None:
    async with opened(browser, client) as page:
        await page.get_by_label("Hands-free").check()
        await page.get_by_role("button", name="Open the microphone").click()
        turn = page.get_by_role("article").first
        await over(turn)
        summary = turn.locator(".timing summary")
        await expect(summary).to_contain_text("from your last word to the first sound")
        told_ms = int(re.findall(r"\d+", await summary.inner_text())[0])
        chart = await turn.get_by_role("img").get_attribute("aria-label") or ""
        (silence_ms,) = (int(ms) for ms in re.findall(r"Silence: 0 ms to (\d+) ms", chart))
        assert silence_ms >= 500  # what ends a turn by default
        assert told_ms > silence_ms
        await page.reload()
        await ready(page)
        await expect(page.get_by_label("Hands-free")).to_be_checked()  # the choice is kept


@pytest.mark.parametrize("times", [1, 2])
async def test_a_page_of_which_a_part_does_not_come_is_loaded_again_and_then_says_so(
    browser: Browser, client: Client, times: int
) -> None:
    async with opened(browser, client) as page:
        await page.route("**/waves.js", lambda route: route.abort(), times=times)
        async with page.expect_event("requestfailed"):  # page.reload would be cut off when the page loads itself again
            await page.evaluate("setTimeout(() => location.reload())")
        if times == 1:
            await ready(page)
        else:
            await expect(page.locator("#phase")).to_have_text("A part of this page did not come. Please load it again.")
            await expect(page.locator("#talk")).to_be_disabled()
            await page.reload()
            await ready(page)
