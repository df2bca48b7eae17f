from __future__ import annotations

import pytest
from playwright.async_api import Browser, Page, expect

pytestmark = pytest.mark.slow

LISTEN_MS = 2_500


async def hold_to_talk(page: Page) -> None:
    await page.get_by_role("button", name="Hold to talk").hover()
    await page.mouse.down()
    await expect(page.locator("#phase")).to_have_text("Listening")
    await page.wait_for_timeout(LISTEN_MS)  # the question takes as long
    await page.mouse.up()


async def test_a_question_held_into_the_microphone_is_answered_in_text_and_sound(page: Page) -> None:
    await hold_to_talk(page)
    turn = page.get_by_role("article").first
    await expect(turn).to_have_attribute("aria-busy", "false")
    await expect(turn.locator(".reply")).to_contain_text("taco")
    await expect(turn.get_by_role("group")).to_contain_text("ms to the first sound")
    chart = await turn.get_by_role("img").get_attribute("aria-label")
    assert chart is not None
    for row in ("Heard", "Text", "Speech", "Sound", "Played"):
        assert f"{row}: " in chart, f"the waterfall has no row {row}: {chart}"
    await expect(turn.locator(".you")).to_contain_text("how to make a taco")  # written down by default


async def test_a_written_question_is_answered_and_the_space_bar_talks(page: Page) -> None:
    await page.get_by_label("Write instead").fill("How do I make a taco?")
    await page.keyboard.press("Enter")
    first = page.get_by_role("article").first
    await expect(first.locator(".you")).to_contain_text("How do I make a taco?")
    await expect(first).to_have_attribute("aria-busy", "false")
    await page.locator("#conversation").focus()
    await page.keyboard.down("Space")
    await expect(page.locator("#phase")).to_have_text("Listening")
    await page.wait_for_timeout(LISTEN_MS)
    await page.keyboard.up("Space")
    second = page.get_by_role("article").nth(1)
    await expect(second).to_have_attribute("aria-busy", "false")
    await expect(second.locator(".fate.failed")).to_have_count(0)


async def test_hands_free_finds_turns_and_speech_interrupts_replies(page: Page) -> None:
    await page.get_by_label("Hands-free").check()
    await page.get_by_role("button", name="Open the microphone").click()
    # The microphone repeats the question, also during a reply.
    turns = page.get_by_role("article")
    await expect(turns.nth(3)).to_be_visible()
    await expect(page.locator(".fate.failed")).to_have_count(0)
    await expect(page.locator(".fate.interrupted").first).to_contain_text("Interrupted after")
    await page.get_by_role("button", name="Close the microphone").click()
    await expect(page.get_by_role("button", name="Open the microphone")).to_be_visible()


async def test_escape_silences_a_reply_and_reports_how_much_was_played(page: Page) -> None:
    await page.get_by_label("Write instead").fill("How do I make a taco?")  # four seconds to answer
    await page.keyboard.press("Enter")
    await expect(page.locator("#phase")).to_contain_text("Speaking")
    await page.keyboard.press("Escape")
    await expect(page.locator(".fate.interrupted")).to_contain_text("Interrupted after")
    await expect(page.locator("#phase")).not_to_contain_text("Speaking")


async def test_a_tap_too_short_to_say_anything_asks_nothing(page: Page) -> None:
    await page.get_by_role("button", name="Hold to talk").click()
    await expect(page.get_by_role("alert").filter(visible=True)).to_contain_text("for as long as you speak")
    await expect(page.get_by_role("article")).to_have_count(0)


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_nothing_overflows_a_small_phone(browser: Browser, page: Page, scheme: str) -> None:
    phone = await browser.new_page(viewport={"width": 320, "height": 568}, has_touch=True, color_scheme=scheme)  # pyright: ignore[reportArgumentType]
    await phone.goto(page.url)
    for button in (None, "#open-voices", "#open-settings"):
        if button:
            await phone.click(button)
        assert await phone.evaluate("document.documentElement.scrollWidth") == 320
        await phone.keyboard.press("Escape")
    background = await phone.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(250, 249, 247)") == (scheme == "light")
    await phone.close()


async def test_a_reply_without_sound_says_so(page: Page) -> None:
    """A model can end its speech with the first frame."""
    shown = await page.evaluate(
        """async () => {
            const { Transcript } = await import("./transcript.js");
            const { Turn } = await import("./turn.js");
            const list = document.createElement("div");
            const transcript = new Transcript(list, { voiceName: () => "Reader" });
            const turn = new Turn(performance.now());
            turn.text = { first: performance.now(), last: performance.now() };
            turn.outcome = "replying";
            transcript.show(turn);
            const before = list.textContent;
            turn.outcome = "completed";
            transcript.show(turn);
            return { before, after: list.textContent };
        }"""
    )
    assert "until the first sound" in shown["before"]
    assert "An empty reply" not in shown["before"]
    assert "No sound" in shown["after"]
    assert "An empty reply" in shown["after"]
    assert "first sound" not in shown["after"]
