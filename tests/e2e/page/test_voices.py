from __future__ import annotations

import pytest
from playwright.async_api import Page, expect

from tests.support.local_stack import VOICE_FILE, VOICE_TRANSCRIPT, LocalStack

pytestmark = pytest.mark.slow


async def open_form(page: Page) -> None:
    await page.locator("#open-voices").click()
    await page.get_by_text("Clone a voice").click()


async def delete(page: Page, name: str) -> None:
    button = page.get_by_role("button", name=f"Delete {name}")
    await button.click()
    await expect(button).to_have_text("Delete for good?")
    await button.click()
    await expect(button).to_have_count(0)


async def test_an_uploaded_voice_needs_consent_is_picked_and_deleted(page: Page, nano: LocalStack) -> None:
    await open_form(page)
    await page.get_by_label("Name").fill("Page test")
    await page.get_by_label("Transcript").fill(VOICE_TRANSCRIPT)
    await page.locator("#upload").set_input_files(VOICE_FILE)
    submit = page.get_by_role("button", name="Clone this voice")
    await submit.click()
    assert await page.locator("#clone-form:invalid").count() == 1, "sent without consent"
    await page.get_by_label("agreed to have their voice cloned").check()
    await submit.click()
    await expect(page.get_by_role("radio", name="Page test")).to_be_checked(timeout=60_000)
    await expect(page.locator("#voice-name")).to_have_text("Page test")
    async with nano.client() as client:
        (made,) = [voice async for voice in client.list_voices() if voice.display_name == "Page test"]
    assert made.transcript == VOICE_TRANSCRIPT
    assert "agreed to have their voice cloned here. (ticked on the page" in made.consent
    await delete(page, "Page test")
    async with nano.client() as client:
        assert made.voice_id not in [voice.voice_id async for voice in client.list_voices()]


async def test_ten_recorded_seconds_make_a_voice(page: Page, nano: LocalStack) -> None:
    await open_form(page)
    await page.get_by_label("Name").fill("Recorded")
    await page.get_by_role("button", name="Record 10 seconds").click()
    await expect(page.get_by_label("Transcript")).not_to_be_empty()  # something to read aloud
    await page.get_by_role("button", name="Record again").wait_for()
    await page.get_by_label("agreed to have their voice cloned").check()
    await page.get_by_role("button", name="Clone this voice").click()
    await expect(page.get_by_role("radio", name="Recorded")).to_be_checked(timeout=60_000)
    async with nano.client() as client:
        (made,) = [voice async for voice in client.list_voices() if voice.display_name == "Recorded"]
    assert 9.9 < made.duration_s < 10.1
    await delete(page, "Recorded")
