"""What people expect of a conversation: examples, a new one, one that is kept, replies to hear again, devices."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from playwright.async_api import Browser, Page, expect

from chroma.v1.checkpoint_pb2 import CheckpointCard
from tests.integration.gateway.conftest import Fakes, StartGateway, fakes, start_gateway
from tests.support.gateway_client import Client, new_voice
from tests.support.page import PATIENCE_MS, answered, opened, over, played, ready, write

__all__ = ["fakes", "start_gateway"]

pytestmark = pytest.mark.slow

CARD = CheckpointCard(
    summary="A model of the sea.",
    topics=["waves", "tides", "ships"],
    examples=["How deep is it?", "Why is it salty?"],
    voices="This checkpoint has one voice and does not clone.",
    preview="The tide is high.",
)
REPLY_S = 1.0


@pytest.fixture
async def client(start_gateway: StartGateway, fakes: Fakes) -> AsyncIterator[Client]:
    """A client of a gateway with a voice, whose checkpoint has a card, and whose replies are a tone."""
    fakes.reasoner.script.card = CARD
    fakes.codec.script.tone_hz = 440.0
    await fakes.reasoner.restart()
    async with start_gateway(transcribe=True) as client:
        await client.voices.CreateVoice(new_voice("ada"))
        yield client


async def test_the_page_tells_what_the_checkpoint_knows_and_offers_its_examples(
    browser: Browser, client: Client, fakes: Fakes
) -> None:
    async with opened(browser, client) as page:
        welcome = page.locator("#welcome")
        await expect(welcome).to_contain_text("A model of the sea.")
        await expect(welcome).to_contain_text("It knows about waves, tides and ships.")
        await expect(page.get_by_role("group", name="Questions to ask").get_by_role("button")).to_have_count(2)
        await page.get_by_role("button", name="Why is it salty?").click()
        turn = page.get_by_role("article").first
        await over(turn)
        await expect(turn.locator(".you")).to_contain_text("Why is it salty?")
        assert fakes.reasoner.script.heard == ["Why is it salty?"]
        await expect(welcome).to_be_hidden()


async def test_a_new_conversation_remembers_nothing(browser: Browser, client: Client, fakes: Fakes) -> None:
    async with opened(browser, client) as page:
        new = page.get_by_role("button", name="New conversation")
        await expect(new).to_be_hidden()
        await answered(page, "one")
        await answered(page, "two")
        assert len(fakes.reasoner.script.opened[-1].history) == 2
        await new.click()
        await expect(page.get_by_role("article")).to_have_count(0)
        await expect(page.locator("#welcome")).to_be_visible()
        await ready(page)
        await answered(page, "three")
        assert not fakes.reasoner.script.opened[-1].history
        await page.reload()
        await expect(page.get_by_role("article")).to_have_count(1)


async def test_a_conversation_is_kept_over_a_reload(browser: Browser, client: Client, fakes: Fakes) -> None:
    async with opened(browser, client) as page:
        await answered(page, "one")
        await played(page)
        await page.get_by_role("button", name="Hold to talk").hover()
        await page.mouse.down()
        await expect(page.locator("#phase")).to_have_text("Listening")
        await page.wait_for_timeout(1_000)
        await page.mouse.up()
        spoken = page.get_by_role("article").nth(1)
        await over(spoken)
        await expect(spoken.locator(".you")).to_have_text("YouHello, dear world.")  # the fake's transcript
        await played(page)
        texts = [await turn.locator(".words > p:visible").all_inner_texts() for turn in await _turns(page)]
        await page.reload()
        await ready(page)
        again = [await turn.locator(".words > p:visible").all_inner_texts() for turn in await _turns(page)]
        assert again == texts
        await answered(page, "three")
        assert len(fakes.reasoner.script.opened[-1].history) == 4
        other = await page.context.new_page()  # another tab begins a conversation of its own
        await other.goto(page.url)
        await ready(other)
        await expect(other.get_by_role("article")).to_have_count(0)


async def _turns(page: Page) -> list:
    await expect(page.get_by_role("article")).to_have_count(2)
    return await page.get_by_role("article").all()


async def test_a_conversation_that_the_server_has_forgotten_is_begun_anew(browser: Browser, client: Client) -> None:
    async with opened(browser, client) as page:
        await answered(page, "one")
        kept = "sessionStorage.setItem('chroma-voice.conversation', JSON.stringify({ sessionId: 'gone', words: {} }))"
        await page.evaluate(kept)
        await page.reload()
        await ready(page)
        await expect(page.get_by_role("article")).to_have_count(0)
        await answered(page, "two")


async def test_a_reply_is_played_again_downloaded_and_copied(browser: Browser, client: Client, tmp_path: Path) -> None:
    rights = ["clipboard-read", "clipboard-write"]
    async with opened(browser, client, permissions=rights) as page:
        turn = await answered(page, "question")
        await turn.get_by_role("button", name="Play again").click()
        await expect(turn.get_by_role("button", name="Stop")).to_be_visible()
        await expect(page.locator("#phase")).to_have_text("Playing again")
        await expect(turn.get_by_role("button", name="Play again")).to_be_visible()  # it has ended
        async with page.expect_download() as waiting:
            await turn.get_by_role("button", name="Download").click()
        download = await waiting.value
        assert download.suggested_filename.endswith(".wav")
        await download.save_as(tmp_path / "reply.wav")
        sound, rate_hz = soundfile.read(tmp_path / "reply.wav")
        assert rate_hz == 24_000
        assert len(sound) / rate_hz >= 0.9 * REPLY_S
        assert np.sqrt((sound**2).mean()) > 0.1
        await turn.get_by_role("button", name="Copy text").click()
        await expect(turn.get_by_role("button", name="Copied")).to_be_visible()
        assert await page.evaluate("navigator.clipboard.readText()") == "Hello, dear world."
        await page.get_by_role("button", name="Copy the conversation").click()
        await expect(page.locator("#connection")).to_have_text("Copied")
        whole = await page.evaluate("navigator.clipboard.readText()")
        assert whole == "You: question\nada: Hello, dear world."


async def test_a_replay_gives_way_to_the_next_question(browser: Browser, client: Client, fakes: Fakes) -> None:
    fakes.speech_gen.script.frames_after = 100  # eight seconds
    async with opened(browser, client) as page:
        first = await answered(page, "one")
        await page.keyboard.press("Escape")
        await first.get_by_role("button", name="Play again").click()
        await expect(first.get_by_role("button", name="Stop")).to_be_visible()
        await write(page, "two")
        await expect(first.get_by_role("button", name="Play again")).to_be_visible()


async def test_volume_and_mute_change_what_is_heard_and_the_devices_are_the_users_choice(
    browser: Browser, client: Client
) -> None:
    async with opened(browser, client) as page:
        await answered(page, "question")
        volume = "window.gains.at(-1).gain.value"
        assert await page.evaluate(volume) == 1
        mute = page.get_by_role("button", name="Mute the replies")
        await mute.click()
        await expect(mute).to_have_attribute("aria-pressed", "true")
        assert await page.evaluate(volume) == 0
        await mute.click()
        await page.get_by_role("button", name="Settings").click()
        await page.get_by_label("Volume of the replies").fill("40")
        assert await page.evaluate(volume) == pytest.approx(0.4)
        await expect(page.get_by_label("Loudspeaker")).to_be_visible()
        await page.get_by_label("Microphone").select_option(index=2)
        chosen = await page.get_by_label("Microphone").input_value()
        await page.reload()
        await ready(page)
        await page.get_by_role("button", name="Hold to talk").hover()
        await page.mouse.down()
        await expect(page.locator("#phase")).to_have_text("Listening")
        await page.mouse.up()
        assert await page.evaluate("window.constraints.at(-1).deviceId.exact") == chosen
        assert await page.evaluate("window.tracks.at(-1).getSettings().deviceId") == chosen
        await page.get_by_role("button", name="Settings").click()
        await expect(page.get_by_label("Microphone")).to_have_value(chosen)
        await expect(page.get_by_label("Volume of the replies")).to_have_value("40")


async def test_replies_come_from_the_chosen_loudspeaker(browser: Browser, client: Client) -> None:
    async with opened(browser, client) as page:
        await answered(page, "question")
        await page.get_by_role("button", name="Settings").click()
        await page.get_by_label("Loudspeaker").select_option(index=2)
        chosen = await page.get_by_label("Loudspeaker").input_value()
        async with asyncio.timeout(PATIENCE_MS / 1000):
            while await page.evaluate("window.outputs.at(-1)") != chosen:
                await page.wait_for_timeout(20)
        await page.reload()
        await ready(page)
        await answered(page, "question")
        assert await page.evaluate("window.outputs") == [chosen]


async def test_a_browser_that_cannot_choose_a_loudspeaker_is_not_asked_to(browser: Browser, client: Client) -> None:
    async with opened(browser, client) as page:
        await page.add_init_script("delete AudioContext.prototype.setSinkId;")
        await page.reload()
        await ready(page)
        await page.get_by_role("button", name="Settings").click()
        await expect(page.get_by_label("Microphone")).to_be_visible()
        await expect(page.get_by_label("Loudspeaker")).to_be_hidden()


async def test_the_sound_of_both_sides_is_drawn(browser: Browser, client: Client) -> None:
    """The user's below the line, the reply's above it."""
    async with opened(browser, client) as page:
        await page.get_by_role("button", name="Hold to talk").hover()
        await page.mouse.down()
        await expect(page.locator("#phase")).to_have_text("Listening")
        await page.wait_for_timeout(1_500)
        await page.mouse.up()
        await over(page.get_by_role("article").first)
        drawn = """() => {
            const canvas = document.querySelector("#waves");
            const half = Math.floor(canvas.height / 2) - 2;
            const count = (y) => canvas.getContext("2d").getImageData(0, y, canvas.width, half).data
                .filter((value, i) => i % 4 === 3 && value > 0).length;
            return [count(0), count(half + 4)];
        }"""
        await played(page)
        above, below = await page.evaluate(drawn)
        assert above > 100
        assert below > 100


async def test_each_voice_says_a_sentence_that_the_checkpoint_speaks_well(
    browser: Browser, client: Client, fakes: Fakes
) -> None:
    await client.voices.CreateVoice(new_voice("bea"))
    async with opened(browser, client) as page:
        await page.locator("#open-voices").click()
        await expect(page.locator("#voices-statement")).to_have_text(
            "This checkpoint has one voice and does not clone."
        )
        async with page.expect_response("**/v1/audio/speech") as waiting:
            await page.get_by_role("button", name="Listen to bea").click()
        assert (await waiting.value).status == 200
        await expect(page.get_by_role("button", name="Listen to bea")).to_have_text("Listen")
        loudest = await page.evaluate(
            """async () => {
                const bytes = await window.blobs.at(-1).arrayBuffer();
                const sound = await new OfflineAudioContext(1, 1, 24000).decodeAudioData(bytes);
                return Math.max(...sound.getChannelData(0));
            }"""
        )
        assert loudest > 0.1
        assert "".join(fakes.reasoner.script.spoken) == "The tide is high."
        await expect(page.locator("#clone-error")).to_be_hidden()


async def test_speech_that_the_checkpoint_cannot_say_is_marked(
    browser: Browser, start_gateway: StartGateway, fakes: Fakes
) -> None:
    fakes.reasoner.script.card = CheckpointCard(sentences=["The tide is high."])
    await fakes.reasoner.restart()
    async with start_gateway() as client:
        await client.voices.CreateVoice(new_voice("ada"))
        async with opened(browser, client) as page:
            turn = await answered(page, "question")
            await expect(turn.locator(".caution")).to_have_text(
                "This checkpoint cannot say this, so the speech is wrong: “Hello, dear world.”"
            )
            fakes.reasoner.script.reply = ("The tide", " is high.")
            turn = await answered(page, "question")
            await expect(turn.locator(".caution")).to_be_hidden()
