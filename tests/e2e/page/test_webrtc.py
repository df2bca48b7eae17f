"""A page that calls over WebRTC as docs/api.md shows it: fetch, RTCPeerConnection, and a data channel for events.

The microphone is a file with a question, again and again: it asks, and it interrupts the reply.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from playwright.async_api import Page

from tests.support.local_stack import PATIENCE_S
from tests.support.snippets import snippets_of

pytestmark = pytest.mark.slow

(_GUIDE,) = (snippet.code for snippet in snippets_of("docs/api.md") if snippet.language == "js")

_CALL = f"""
async () => {{
  const told = (window.call = {{ events: [], loudest: 0 }});
  const console = {{ log: (event) => told.events.push(event) }};
  const URL = location.origin;
  const CLIENT_SECRET = document.querySelector('meta[name="page-token"]')?.content ?? '';
  const audio = document.createElement('audio');
  audio.autoplay = true;
  document.body.prepend(audio);
  {_GUIDE}
  events.onclose = () => (told.closed = true);
  told.location = call;
  told.headers = {{ Authorization: `Bearer ${{CLIENT_SECRET}}` }};
  const context = new AudioContext();
  const analyser = context.createAnalyser();
  context.createMediaStreamSource(new MediaStream([peer.getReceivers()[0].track])).connect(analyser);
  const samples = new Float32Array(analyser.fftSize);
  setInterval(() => {{
    analyser.getFloatTimeDomainData(samples);
    told.loudest = Math.max(told.loudest, ...samples.map(Math.abs));
  }}, 20);
  return answer.status;
}}
"""
"""The program of docs/api.md, and what the test needs to know of its call."""


async def _wait(page: Page, condition: str, argument: Any = None) -> None:
    """Wait until a condition of the page holds. The page's policy forbids what Playwright's own wait does."""
    async with asyncio.timeout(PATIENCE_S):
        while not await page.evaluate(condition, argument):
            await page.wait_for_timeout(50)


async def _until(page: Page, kind: str) -> list[dict[str, Any]]:
    """The events of this kind, once there is one."""
    await _wait(page, "(kind) => window.call.events.some((event) => event.type === kind)", kind)
    return await page.evaluate("(kind) => window.call.events.filter((event) => event.type === kind)", kind)


async def test_a_page_asks_hears_interrupts_and_hangs_up(page: Page) -> None:
    assert await page.evaluate(_CALL) == 201
    (created,) = await _until(page, "session.created")
    assert created["session"]["audio"]["input"]["turn_detection"]["type"] == "server_vad"
    await _until(page, "input_audio_buffer.speech_started")
    await _until(page, "output_audio_buffer.started")
    await _wait(page, "() => window.call.loudest > 0.05")
    words = await _until(page, "response.output_audio_transcript.delta")
    assert "".join(event["delta"] for event in words).strip()
    # The microphone repeats the question, also during the reply.
    (cleared, *_) = await _until(page, "output_audio_buffer.cleared")
    cut = await _until(page, "conversation.item.truncated")
    assert cut[0]["audio_end_ms"] > 0
    done = "(id) => window.call.events.some((event) => event.type === 'response.done' && event.response.id === id)"
    await _wait(page, done, cleared["response_id"])
    hung_up = await page.evaluate(
        "() => fetch(`${window.call.location}/hangup`, { method: 'POST', headers: window.call.headers })"
        ".then((answer) => answer.status)"
    )
    assert hung_up == 200
    await _wait(page, "() => window.call.closed === true")
    assert not await page.evaluate("window.call.events.some((event) => event.type === 'response.output_audio.delta')")
