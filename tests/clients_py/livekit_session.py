"""A realtime session of LiveKit's OpenAI plugin, without a LiveKit server: `livekit_session.py SCENARIO http://host:port/v1`.

Prints one JSON object of what the session saw.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
from livekit import rtc
from livekit.agents import APIError, llm
from livekit.plugins import openai

RATE_HZ = 24_000


class Session:
    """A session whose events are written down."""

    def __init__(self, url: str, key: str, http: aiohttp.ClientSession, **settings: Any) -> None:
        self.seen: dict[str, Any] = {"errors": [], "fatal": [], "texts": [], "audio_samples": []}
        model = openai.realtime.RealtimeModel(base_url=url, api_key=key, http_session=http, voice="bob", **settings)
        self.session = model.session()
        self.ended = asyncio.Event()
        self.response_done = asyncio.Event()
        self.session.on("error", self._on_error)
        self.session.on("openai_server_event_received", self._on_event)

    def _on_error(self, event: llm.RealtimeModelError) -> None:
        self.seen["errors" if event.recoverable else "fatal"].append(str(event.error))
        if not event.recoverable:
            self.ended.set()

    def _on_event(self, event: dict[str, Any]) -> None:
        if event["type"] == "error":
            self.seen["errors"].append(event["error"])
        elif event["type"] == "response.done":
            self.response_done.set()

    async def reply(self, **settings: Any) -> str:
        """A whole reply of the model; its message's id."""
        generation = await self.session.generate_reply(**settings)
        async for message in generation.message_stream:
            text = "".join([part async for part in message.text_stream])
            samples = sum([frame.samples_per_channel async for frame in message.audio_stream])
            self.seen["texts"].append(text)
            self.seen["audio_samples"].append(samples)
            return message.message_id
        raise AssertionError("no message")

    async def silence(self, seconds: float) -> None:
        """Sound of an open microphone."""
        for _ in range(round(seconds * 10)):
            self.session.push_audio(rtc.AudioFrame(bytes(RATE_HZ // 5), RATE_HZ, 1, RATE_HZ // 10))
            await asyncio.sleep(0.005)

    @property
    def ids(self) -> list[str]:
        """The items that the plugin believes the server has."""
        return [item.id for item in self.session.chat_ctx.items]


async def greets(session: Session) -> None:
    """Session instructions, then a greeting."""
    await session.session.update_instructions("You are a guide.")
    await session.reply(instructions="Greet the visitor.")
    await session.reply()


async def open_microphone(session: Session) -> None:
    """A greeting while silence comes from the microphone."""
    await session.silence(2)
    await session.reply(instructions="Greet the visitor.")


async def edits(session: Session) -> None:
    """A reply is interrupted, then its item is written again as AgentSession does, and one is put in front of all."""
    context = llm.ChatContext.empty()
    context.add_message(role="user", content="Tell me a story.", id="question")
    await session.session.update_chat_ctx(context)
    generation = await session.session.generate_reply()
    async for message in generation.message_stream:
        heard = [await anext(aiter(message.audio_stream)) for _ in range(2)]
        session.session.interrupt()
        session.session.truncate(message_id=message.message_id, modalities=["audio"], audio_end_ms=80 * len(heard))
        async for _ in message.audio_stream:
            pass
        break
    await session.response_done.wait()  # the plugin skips the edit of an item whose text it does not have yet
    edited = session.session.chat_ctx.copy()
    index = edited.index_by_id(message.message_id)
    edited.items[index] = llm.ChatMessage(id=message.message_id, role="assistant", content=["Once upon a time."])
    edited.items.insert(0, llm.ChatMessage(id="earlier", role="user", content=["Good morning."]))
    await session.session.update_chat_ctx(edited)
    session.seen["in_order"] = session.ids == ["earlier", "question", message.message_id]
    await session.reply()


@llm.function_tool
async def get_weather(city: str) -> str:
    """The weather of a city."""
    return "clear"


async def options(session: Session) -> None:
    """Every option of the plugin, tools included."""
    session.session.update_options(
        speed=1.1,
        input_audio_noise_reduction="near_field",
        max_response_output_tokens=200,
        tracing="auto",
        truncation="auto",
        tool_choice="auto",
        turn_detection=None,
    )
    await session.session.update_tools([get_weather])
    await session.session.update_instructions("You are a guide.")
    await session.reply(instructions="Greet the visitor.")


async def refused(session: Session) -> None:
    """The server refuses the session: the plugin gives up."""
    async with asyncio.timeout(100):
        await session.ended.wait()


async def drained(session: Session) -> None:
    """A reply, then the gateway goes away; another reply when the plugin has connected again."""
    again = asyncio.Event()
    session.session.on("session_reconnected", lambda _: again.set())
    await session.session.update_instructions("You are a guide.")
    await session.reply(instructions="Greet the visitor.")
    async with asyncio.timeout(50):
        await again.wait()
    await session.reply()


MANUAL = {"turn_detection": None}
SCENARIOS: dict[str, tuple[Callable[[Session], Awaitable[None]], dict[str, Any]]] = {
    "greets": (greets, {}),
    "open-microphone": (open_microphone, MANUAL),
    "edits": (edits, MANUAL),
    "options": (options, {}),
    "refused": (refused, {}),
    "drained": (drained, {}),
}


async def main(name: str, url: str, key: str = "none") -> None:
    """Run a scenario and print what was seen."""
    scenario, settings = SCENARIOS[name]
    async with aiohttp.ClientSession() as http:
        session = Session(url, key, http, **settings)
        try:
            await scenario(session)
        except TimeoutError:
            session.seen["errors"].append("the plugin did not come to an end")
        with contextlib.suppress(APIError):  # of a session that was refused
            await session.session.aclose()
    print(json.dumps(session.seen))


asyncio.run(main(*sys.argv[1:]))
