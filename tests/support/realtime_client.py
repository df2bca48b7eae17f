"""OpenAI's own Python client of /v1/realtime. Every event that it reads is as OpenAI's models have it."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import soundfile
import soxr
from openai import AsyncOpenAI
from openai.types.realtime import RealtimeServerEvent
from pydantic import TypeAdapter

from services.common.wire.pcm import Samples
from tests.support.gateway_client import Client, s16
from tests.support.paths import SAMPLES

RATE_HZ = 24_000

_EVENTS: TypeAdapter[Any] = TypeAdapter(RealtimeServerEvent)
MANUAL = {"type": "realtime", "audio": {"input": {"turn_detection": None}}}


class Talk:
    """One connection of the client."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self.seen: list[Any] = []

    async def send(self, kind: str, **fields: Any) -> None:
        """Send one event."""
        await self.connection.send({"type": kind, **fields})

    async def next(self) -> Any:
        """The next event, which must be as OpenAI's models have it."""
        event = await self.connection.recv()
        if event.type != "conversation.item.created":  # a beta event
            _EVENTS.validate_python(event.to_dict(mode="python"), strict=True)
        self.seen.append(event)
        return event

    async def until(self, kind: str) -> list[Any]:
        """Events up to the next one of `kind`."""
        events = [await self.next()]
        while events[-1].type != kind:
            events.append(await self.next())
        return events

    async def error(self) -> Any:
        """The next event, an error."""
        event = await self.next()
        assert event.type == "error", event
        return event.error

    async def say(self, text: str) -> list[Any]:
        """A whole text turn."""
        await self.add("user", {"type": "input_text", "text": text})
        await self.send("response.create")
        return await self.until("response.done")

    async def add(self, role: str, *content: dict[str, Any], **fields: Any) -> Any:
        """Add an item; the item as it was announced."""
        item = {"type": "message", "role": role, "content": list(content), **fields}
        await self.send("conversation.item.create", item=item)
        return (await self.until("conversation.item.done"))[-1].item

    async def append(self, sound: Samples, chunk: int = 2_400) -> None:
        """Append audio at 24 kHz to the input buffer, in chunks."""
        for start in range(0, len(sound), chunk):
            audio = base64.b64encode(s16(sound[start : start + chunk])).decode()
            await self.send("input_audio_buffer.append", audio=audio)


def openai_of(client: Client) -> AsyncOpenAI:
    """OpenAI's client of our gateway."""
    return AsyncOpenAI(api_key="none needed", base_url=f"http://{client.http_address}/v1", max_retries=0)


def message(role: str, text: str) -> dict[str, Any]:
    """An item of this text."""
    kind = "output_text" if role == "assistant" else "input_text"
    return {"type": "message", "role": role, "content": [{"type": kind, "text": text}]}


def recorded(name: str) -> Samples:
    """A sample recording at 24 kHz."""
    sound, rate_hz = soundfile.read(SAMPLES / name, dtype="float32")
    return soxr.resample(np.asarray(sound, dtype=np.float32), rate_hz, RATE_HZ)


def kinds(events: list[Any]) -> list[str]:
    """The events' types, each once in a row."""
    return [event.type for index, event in enumerate(events) if index == 0 or events[index - 1].type != event.type]
