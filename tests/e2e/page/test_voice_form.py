"""The form that clones a voice: what to read, a recording and a file, and names that are taken."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, expect

from tests.integration.gateway.conftest import StartGateway, fakes, start_gateway
from tests.support.gateway_client import Client, new_voice
from tests.support.local_stack import VOICE_FILE
from tests.support.page import opened

__all__ = ["fakes", "start_gateway"]

pytestmark = pytest.mark.slow

SENTENCE = "On a clear morning we walked along the river"


@pytest.fixture
async def client(start_gateway: StartGateway) -> AsyncIterator[Client]:
    """A client of a gateway with a voice."""
    async with start_gateway() as client:
        await client.voices.CreateVoice(new_voice("ada"))
        yield client


async def _open_form(page: Page) -> None:
    await page.locator("#open-voices").click()
    await page.get_by_text("Clone a voice").click()


async def test_the_sentence_to_read_is_shown_before_a_recording_and_a_file_ends_the_recording(
    browser: Browser, client: Client
) -> None:
    async with opened(browser, client) as page:
        await _open_form(page)
        await expect(page.get_by_role("figure")).to_contain_text(SENTENCE)
        transcript = page.get_by_label("Transcript")
        await expect(transcript).to_be_empty()
        await page.get_by_role("button", name="Record 10 seconds").click()
        await expect(page.locator("#take-status")).to_contain_text("Read the sentence aloud in")
        await expect(page.locator("#take-status")).to_have_text("Recording. Read now.")
        await expect(transcript).to_have_value(
            f"{SENTENCE}, talked about everything and nothing, "
            "and came home with cold hands and a bag full of warm bread."
        )
        await page.locator("#upload").set_input_files(VOICE_FILE)
        await expect(page.locator("#take-name")).to_have_text(VOICE_FILE.name)
        await expect(page.get_by_role("button", name="Record 10 seconds")).to_be_visible()
        assert await page.evaluate("window.tracks.map((track) => track.readyState)") == ["ended"]
        await expect(transcript).to_be_empty()  # its words are others
        assert await page.evaluate("window.blobs.at(-1).name") == VOICE_FILE.name


async def test_a_file_that_the_server_may_not_read_is_sent_as_wav(
    browser: Browser, client: Client, tmp_path: Path
) -> None:
    """The browser records a film's sound (WebM), and the file goes through the form."""
    record = """async () => {
        const context = new AudioContext();
        const tone = new OscillatorNode(context, { frequency: 440 });
        const target = context.createMediaStreamDestination();
        tone.connect(target);
        tone.start();
        const recorder = new MediaRecorder(target.stream, { mimeType: "audio/webm" });
        const whole = new Promise((done) => (recorder.ondataavailable = ({ data }) => done(data)));
        recorder.start();
        await new Promise((done) => setTimeout(done, 2000));
        recorder.stop();
        return [...new Uint8Array(await (await whole).arrayBuffer())];
    }"""
    async with opened(browser, client) as page:
        film = tmp_path / "me and my dog.webm"
        film.write_bytes(bytes(await page.evaluate(record)))
        await _open_form(page)
        await page.locator("#upload").set_input_files(film)
        await expect(page.locator("#take-name")).to_have_text("me and my dog.wav")
        head = "window.blobs.at(-1).slice(0, 4).text()"
        assert await page.evaluate(head) == "RIFF"
        size = await page.evaluate("window.blobs.at(-1).size")
        assert 1.5 < size / 48_000 < 2.6
        await page.get_by_label("Name").fill("Tone")
        await page.get_by_label("Transcript").fill("A tone.")
        await page.get_by_label("agreed to have their voice cloned").check()
        await page.get_by_role("button", name="Clone this voice").click()
        await expect(page.get_by_role("radio", name="Tone")).to_be_checked()


async def test_a_file_that_is_no_recording_is_refused_in_a_sentence(
    browser: Browser, client: Client, tmp_path: Path
) -> None:
    async with opened(browser, client) as page:
        letter = tmp_path / "letter.m4a"
        letter.write_text("Dear Sir")
        await _open_form(page)
        await page.locator("#upload").set_input_files(letter)
        await page.get_by_label("Name").fill("Letter")
        await page.get_by_label("Transcript").fill("Dear Sir")
        await page.get_by_label("agreed to have their voice cloned").check()
        await page.get_by_role("button", name="Clone this voice").click()
        error = page.locator("#clone-error")
        await expect(error).to_contain_text("expected")
        await expect(error).not_to_contain_text("<")
        await expect(error).to_be_in_viewport()


async def test_voices_of_one_name_are_told_apart_by_their_ids(browser: Browser, client: Client) -> None:
    for voice_id in ("bea-1", "bea-2"):
        await client.voices.CreateVoice(new_voice(voice_id, display_name="Bea"))
    async with opened(browser, client) as page:
        await page.locator("#open-voices").click()
        await expect(page.locator("#voice-list strong")).to_have_text(["ada", "Bea (bea-1)", "Bea (bea-2)"])
        await page.get_by_role("radio", name="Bea (bea-2)").check()
        await expect(page.locator("#voice-name")).to_have_text("Bea (bea-2)")
